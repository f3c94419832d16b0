// Traps in the way that its item names: unreachable, divide, memory or stack.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static volatile int zero = 0;

// Its frames are large, so that the stack in memory ends before the engine's own.
static int deep(volatile int *above) {
  volatile int here[256];
  here[0] = *above + 1;
  return here[0] == 0 ? 0 : deep(here) + 1;
}

int main(void) {
  char way[32] = "";
  if (scanf("%31s", way) != 1) return 1;
  printf("written before the trap");
  fflush(stdout);
  if (!strcmp(way, "unreachable")) __builtin_trap();
  if (!strcmp(way, "divide")) return way[0] / zero;
  if (!strcmp(way, "memory")) return *(volatile char *)(UINTPTR_MAX - (uintptr_t)zero);
  if (!strcmp(way, "stack")) return deep(&zero);
  fprintf(stderr, "no way to trap is called %s\n", way);
  return 1;
}
