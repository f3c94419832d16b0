// Uses a file of the manifest: its item names it. Prints its length and checksum, and checks that its middle can be
// reached by seeking and that nothing can be written.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  char name[64] = "", path[80];
  if (scanf("%63s", name) != 1) return 1;
  snprintf(path, sizeof path, "/data/%s", name);
  FILE *file = fopen(path, "rb");
  if (!file) {
    perror(path);
    return 1;
  }
  uint64_t bytes = 0, hash = 0xcbf29ce484222325;
  int byte, middle = EOF;
  while ((byte = fgetc(file)) != EOF) {
    bytes++;
    hash = (hash ^ (uint64_t)byte) * 0x100000001b3;
  }
  if (fseek(file, (long)(bytes / 2), SEEK_SET) == 0) middle = fgetc(file);
  int write_refused = fopen(path, "r+b") == NULL;
  int create_refused = fopen("/data/new", "wb") == NULL;
  int climb_refused = fopen("/data/../etc/passwd", "rb") == NULL;
  printf("{\"bytes\":%" PRIu64 ",\"fnv1a\":\"%016" PRIx64 "\",\"middle\":%d,\"refused\":%s}", bytes, hash, middle,
         write_refused && create_refused && climb_refused ? "true" : "false");
  return 0;
}
