// Prints all that could tell one run from another: clocks, randomness, arguments, environment.
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv) {
  struct timespec real, monotonic;
  unsigned char random[16];
  int variables = 0;
  if (clock_gettime(CLOCK_REALTIME, &real) || clock_gettime(CLOCK_MONOTONIC, &monotonic) ||
      getentropy(random, sizeof random)) {
    perror("a clock or randomness");
    return 1;
  }
  for (char **variable = environ; variable && *variable; variable++) variables++;
  printf("{\"real\":\"%lld.%09ld\",\"monotonic\":\"%lld.%09ld\",\"random\":\"", (long long)real.tv_sec, real.tv_nsec,
         (long long)monotonic.tv_sec, monotonic.tv_nsec);
  for (size_t at = 0; at < sizeof random; at++) printf("%02x", random[at]);
  printf("\",\"environment\":%d,\"args\":[", variables);
  for (int at = 0; at < argc; at++) printf("%s\"%s\"", at ? "," : "", argv[at]);
  printf("]}");
  return 0;
}
