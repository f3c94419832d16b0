// Writes as much as its item asks for: "stdout 10000000000" or "stderr 70000".
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void) {
  static char chunk[1 << 16];
  char stream[8] = "";
  uint64_t bytes = 0, written = 0;
  if (scanf("%7s %" SCNu64, stream, &bytes) != 2) {
    fputs("the item must be like \"stdout 1000\"\n", stderr);
    return 1;
  }
  int target = strcmp(stream, "stderr") ? STDOUT_FILENO : STDERR_FILENO;
  memset(chunk, 'x', sizeof chunk);
  while (written < bytes) {
    size_t length = bytes - written < sizeof chunk ? (size_t)(bytes - written) : sizeof chunk;
    ssize_t done = write(target, chunk, length);
    if (done < 0) {
      fprintf(stderr, "refused after %" PRIu64 " bytes: %s\n", written, strerror(errno));
      return 1;
    }
    written += (uint64_t)done;
  }
  return 0;
}
