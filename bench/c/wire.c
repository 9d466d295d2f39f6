/* Owns the reading and writing of wire.h. */
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int wire_begin(struct wire *w, int fd, SSL_CTX *tls) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    w->fd = fd;
    w->ssl = NULL;
    w->start = w->end = 0;
    if (!w->buffer) w->buffer = malloc(WIRE_BUFFER);
    if (!tls) return 0;
    w->ssl = SSL_new(tls);
    return SSL_set_fd(w->ssl, fd) == 1 ? 0 : -1;
}

int wire_connect(struct wire *w, const char *address, int port, SSL_CTX *tls) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, address, &to.sin_addr) != 1) return -1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) || wire_begin(w, fd, tls)) {
        close(fd);
        return -1;
    }
    if (tls) {
        SSL_set_tlsext_host_name(w->ssl, "localhost");
        if (SSL_connect(w->ssl) != 1) {
            wire_close(w);
            return -1;
        }
    }
    return 0;
}

int wire_accept(struct wire *w, int fd, SSL_CTX *tls) {
    if (wire_begin(w, fd, tls)) return -1;
    return !tls || SSL_accept(w->ssl) == 1 ? 0 : -1;
}

void wire_close(struct wire *w) {
    if (w->ssl) {
        SSL_shutdown(w->ssl);
        SSL_free(w->ssl);
        w->ssl = NULL;
    }
    if (w->fd >= 0) close(w->fd);
    w->fd = -1;
    w->start = w->end = 0;
}

int wire_write(struct wire *w, const void *data, size_t count) {
    const char *at = data;
    while (count) {
        long sent;
        if (w->ssl) {
            int piece = count > (1 << 20) ? 1 << 20 : (int)count;
            sent = SSL_write(w->ssl, at, piece);
        } else {
            sent = send(w->fd, at, count, MSG_NOSIGNAL);
            if (sent < 0 && errno == EINTR) continue;
        }
        if (sent <= 0) return -1;
        at += sent;
        count -= (size_t)sent;
    }
    return 0;
}

static long wire_receive(struct wire *w, void *data, size_t room) {
    if (!w->ssl) {
        long got;
        do {
            got = recv(w->fd, data, room, 0);
        } while (got < 0 && errno == EINTR);
        return got;
    }
    /* one TLS record is at most 16 KiB: fill what there is room for from what OpenSSL already holds */
    long total = 0;
    do {
        int got = SSL_read(w->ssl, (char *)data + total, (int)(room - (size_t)total));
        if (got <= 0) return total ? total : (SSL_get_error(w->ssl, got) == SSL_ERROR_ZERO_RETURN ? 0 : -1);
        total += got;
    } while ((size_t)total < room && SSL_pending(w->ssl) > 0);
    return total;
}

long wire_read(struct wire *w, void *data, size_t room) {
    if (w->start == w->end) return wire_receive(w, data, room);
    size_t held = w->end - w->start;
    size_t take = held < room ? held : room;
    memcpy(data, w->buffer + w->start, take);
    w->start += take;
    return (long)take;
}

long wire_read_head(struct wire *w, char *head, size_t room) {
    for (;;) {
        unsigned char *from = w->buffer + w->start;
        unsigned char *end = memmem(from, w->end - w->start, "\r\n\r\n", 4);
        if (end) {
            size_t length = (size_t)(end - from) + 4;
            if (length >= room) return -1;
            memcpy(head, from, length);
            head[length] = 0;
            w->start += length;
            return (long)length;
        }
        if (w->start) {
            memmove(w->buffer, from, w->end - w->start);
            w->end -= w->start;
            w->start = 0;
        }
        if (w->end >= 65536) return -1;
        long got = wire_receive(w, w->buffer + w->end, 65536 - w->end);
        if (got <= 0) return got;
        w->end += (size_t)got;
    }
}

static const char *find_field(const char *head, const char *field) {
    size_t length = strlen(field);
    for (const char *line = strstr(head, "\r\n"); line && line[2]; line = strstr(line + 2, "\r\n")) {
        const char *name = line + 2;
        if (!strncasecmp(name, field, length) && name[length] == ':') return name + length + 1;
    }
    return NULL;
}

long long head_length(const char *head) {
    const char *value = find_field(head, "content-length");
    return value ? strtoll(value, NULL, 10) : -1;
}

int head_has(const char *head, const char *field, const char *value) {
    const char *at = find_field(head, field);
    if (!at) return 0;
    while (*at == ' ') at++;
    return !strncasecmp(at, value, strlen(value));
}
