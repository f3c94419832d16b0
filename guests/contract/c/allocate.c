// Takes memory in blocks of 1 MiB, touching each page, until there is none; then says how much it got and fails.
#include <stdio.h>
#include <stdlib.h>

enum { BLOCK_BYTES = 1 << 20, PAGE_BYTES = 4096 };

int main(void) {
  for (unsigned blocks = 0;; blocks++) {
    volatile char *block = malloc(BLOCK_BYTES);
    if (!block) {
      fprintf(stderr, "out of memory after %u MiB\n", blocks);
      return 1;
    }
    for (size_t at = 0; at < BLOCK_BYTES; at += PAGE_BYTES) block[at] = 1;
  }
}
