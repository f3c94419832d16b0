// Exits with the code that its item gives in decimal, after writing to stdout and to stderr.
#include <stdio.h>
#include <stdlib.h>

int main(void) {
  int code;
  if (scanf("%d", &code) != 1) {
    fputs("the item must be a number\n", stderr);
    return 1;
  }
  printf("written before exit");
  fprintf(stderr, "exiting with %d", code);
  exit(code);
}
