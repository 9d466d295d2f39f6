/* Owns one connection of the benchmark programs: plain or TLS, whole writes, buffered reads of heads and bodies. */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <openssl/ssl.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_BUFFER (1 << 20)

struct wire {
    int fd;
    SSL *ssl;                /* NULL = plain */
    unsigned char *buffer;   /* WIRE_BUFFER bytes, what was read and not yet taken: from start to end */
    size_t start, end;
};

/* All return 0 (or a count) on success, -1 on failure or when the peer is gone. */
int wire_connect(struct wire *w, const char *address, int port, SSL_CTX *tls);
int wire_accept(struct wire *w, int fd, SSL_CTX *tls);
void wire_close(struct wire *w);
int wire_write(struct wire *w, const void *data, size_t count);
long wire_read(struct wire *w, void *data, size_t room);      /* buffered bytes first, then the socket */
long wire_read_head(struct wire *w, char *head, size_t room); /* up to and with the empty line, 0-terminated */
long long head_length(const char *head);                      /* Content-Length, -1 if there is none */
int head_has(const char *head, const char *field, const char *value);
double now_s(void);

#endif
