// Writes its item back.
#include <stdio.h>

int main(void) {
  char buffer[4096];
  size_t length;
  while ((length = fread(buffer, 1, sizeof buffer, stdin)) > 0)
    if (fwrite(buffer, 1, length, stdout) != length) return 1;
  return ferror(stdin) || fflush(stdout) ? 1 : 0;
}
