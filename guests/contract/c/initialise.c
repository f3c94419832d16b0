// Has an initialiser. It reads /data/greeting if there is one and counts itself; each run prints what the initialiser
// left, the item's length, and its own count, which is 1 in a fresh instance every time.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int initialised = 0, runs = 0;
static char *greeting = NULL;

// Made by the linker: sets libc up, /data included. Newer libcs call it once more at `_start`, which does no harm to C;
// a C++ program must not rely on global objects that its initialiser changed. With older ones the linker leaves start
// and end of the program to whoever names this function, so that `main` has to flush its output itself.
extern void __wasm_call_ctors(void);

__attribute__((export_name("wizer.initialize"))) void initialise(void) {
  char line[256] = "";
  __wasm_call_ctors();
  initialised++;
  FILE *file = fopen("/data/greeting", "rb");
  if (!file) return;
  size_t length = fread(line, 1, sizeof line - 1, file);
  line[length] = 0;
  fclose(file);
  greeting = strdup(line);
  if (!greeting) abort();
}

int main(void) {
  size_t length = 0;
  while (getchar() != EOF) length++;
  runs++;
  printf("{\"initialised\":%d,\"run\":%d,\"greeting\":\"%s\",\"item_bytes\":%zu}", initialised, runs,
         greeting ? greeting : "", length);
  return fflush(stdout) ? 1 : 0;
}
