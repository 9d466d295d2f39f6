/* The best that C can do with an upload, as the yardstick: receive, write, and hash in a second thread.
 *
 *   sink PORT FOLDER [-tls CERT KEY] [-hash thread|inline|none] [-fsync] [-nowrite]
 *
 * One thread per connection and, with -hash thread, one more that hashes. Eight buffers of 1 MiB go round between
 * them. The body is stored raw, one file per request; the answer is 200 with the digest. It parses no form: what it
 * leaves out makes the yardstick stricter, not softer. */
#include "wire.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES (1 << 20)
#define BUFFERS 8

enum hashing { HASH_NONE, HASH_INLINE, HASH_THREAD };

static struct {
    const char *folder;
    SSL_CTX *tls;
    enum hashing hashing;
    int fsync, nowrite;
} options = {.hashing = HASH_THREAD};

static atomic_long files;

/* The ring between the receiving thread and the hashing thread. */
struct ring {
    unsigned char *buffer[BUFFERS];
    size_t filled[BUFFERS];
    unsigned long head, tail; /* filled so far, hashed so far */
    int done;
    EVP_MD_CTX *digest;
    pthread_mutex_t lock;
    pthread_cond_t moved;
};

static void *hash_ring(void *argument) {
    struct ring *r = argument;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (r->head == r->tail && !r->done) pthread_cond_wait(&r->moved, &r->lock);
        if (r->head == r->tail) break;
        unsigned slot = (unsigned)(r->tail % BUFFERS);
        pthread_mutex_unlock(&r->lock);
        EVP_DigestUpdate(r->digest, r->buffer[slot], r->filled[slot]);
        pthread_mutex_lock(&r->lock);
        r->tail++;
        pthread_cond_broadcast(&r->moved);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static unsigned char *free_buffer(struct ring *r) {
    pthread_mutex_lock(&r->lock);
    while (r->head - r->tail == BUFFERS) pthread_cond_wait(&r->moved, &r->lock);
    pthread_mutex_unlock(&r->lock);
    return r->buffer[r->head % BUFFERS];
}

static void pass_buffer(struct ring *r, size_t count) {
    if (options.hashing == HASH_INLINE) EVP_DigestUpdate(r->digest, r->buffer[r->head % BUFFERS], count);
    pthread_mutex_lock(&r->lock);
    r->filled[r->head % BUFFERS] = count;
    r->head++;
    if (options.hashing != HASH_THREAD) r->tail++;
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
}

static void drain_ring(struct ring *r) {
    pthread_mutex_lock(&r->lock);
    while (r->head != r->tail) pthread_cond_wait(&r->moved, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

static int write_all(int fd, const unsigned char *data, size_t count) {
    while (count) {
        long wrote = write(fd, data, count);
        if (wrote < 0) return -1;
        data += wrote;
        count -= (size_t)wrote;
    }
    return 0;
}

static int receive_body(struct wire *w, struct ring *r, long long left) {
    char path[4096];
    snprintf(path, sizeof path, "%s/sink-%ld", options.folder, atomic_fetch_add(&files, 1));
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    while (left > 0) {
        unsigned char *buffer = free_buffer(r);
        size_t want = left < BUFFER_BYTES ? (size_t)left : BUFFER_BYTES, have = 0;
        while (have < want) {
            long got = wire_read(w, buffer + have, want - have);
            if (got <= 0) {
                close(fd);
                return -1;
            }
            have += (size_t)got;
        }
        left -= (long long)have;
        size_t count = have;
        pass_buffer(r, count);
        if (!options.nowrite && write_all(fd, buffer, count)) {
            close(fd);
            return -1;
        }
    }
    drain_ring(r);
    int failed = options.fsync && fsync(fd);
    return close(fd) || failed ? -1 : 0;
}

static int answer(struct wire *w, struct ring *r) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    char hex[2 * EVP_MAX_MD_SIZE + 1] = "", reply[512];
    EVP_DigestFinal_ex(r->digest, digest, &length);
    for (unsigned i = 0; i < length; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    int size = snprintf(reply, sizeof reply, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s\n", strlen(hex) + 1, hex);
    return wire_write(w, reply, (size_t)size);
}

static void *serve(void *argument) {
    struct wire w = {.fd = -1};
    struct ring r = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};
    pthread_t hasher;
    char head[65536];
    for (int i = 0; i < BUFFERS; i++) r.buffer[i] = malloc(BUFFER_BYTES);
    r.digest = EVP_MD_CTX_new();
    if (options.hashing == HASH_THREAD) pthread_create(&hasher, NULL, hash_ring, &r);
    if (!wire_accept(&w, (int)(intptr_t)argument, options.tls)) {
        while (wire_read_head(&w, head, sizeof head) > 0) {
            long long length = head_length(head);
            EVP_DigestInit_ex(r.digest, EVP_sha256(), NULL);
            if (length < 0 || receive_body(&w, &r, length) || answer(&w, &r)) break;
        }
    }
    pthread_mutex_lock(&r.lock);
    r.done = 1;
    pthread_cond_broadcast(&r.moved);
    pthread_mutex_unlock(&r.lock);
    if (options.hashing == HASH_THREAD) pthread_join(hasher, NULL);
    EVP_MD_CTX_free(r.digest);
    for (int i = 0; i < BUFFERS; i++) free(r.buffer[i]);
    wire_close(&w);
    free(w.buffer);
    return NULL;
}

static void read_options(int argc, char **argv) {
    for (int i = 3; i < argc; i++) {
        if (!strcmp(argv[i], "-tls") && i + 2 < argc) {
            options.tls = SSL_CTX_new(TLS_server_method());
            SSL_CTX_use_certificate_chain_file(options.tls, argv[i + 1]);
            SSL_CTX_use_PrivateKey_file(options.tls, argv[i + 2], SSL_FILETYPE_PEM);
            i += 2;
        } else if (!strcmp(argv[i], "-hash") && i + 1 < argc) {
            const char *how = argv[++i];
            options.hashing = !strcmp(how, "none") ? HASH_NONE : !strcmp(how, "inline") ? HASH_INLINE : HASH_THREAD;
        } else if (!strcmp(argv[i], "-fsync")) {
            options.fsync = 1;
        } else if (!strcmp(argv[i], "-nowrite")) {
            options.nowrite = 1;
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: sink PORT FOLDER [-tls CERT KEY] [-hash thread|inline|none] [-fsync] [-nowrite]\n");
        return 2;
    }
    options.folder = argv[2];
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1024)) {
        perror("sink");
        return 1;
    }
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;
        if (fd >= 0 && !pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd)) pthread_detach(thread);
    }
}
