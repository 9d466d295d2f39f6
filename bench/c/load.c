/* The load generator: N connections, one thread each; a JSON object on standard output.
 *
 *   load upload|put|get|connect PORT PATH [-tls] [-c CONNECTIONS] [-n REQUESTS_EACH] [-s BYTES] [-r BYTES_PER_S]
 *        [-t SECONDS] [-token T] [-host H] [-accept TYPE]
 *
 * upload: a multipart form with one file of -s bytes, every file different; put: the bytes alone.
 * get: keep-alive requests. connect: a new connection for each request. A '%' in PATH becomes a number that no other
 * request has. -t ends after that many seconds (the request in progress is finished). */
#include "wire.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define RANDOM_BYTES (4 << 20)
#define BOUNDARY "------------------------Bench7f3a9c01d4e5b6a7c8" /* as long as curl makes it */

static const char PROLOGUE[] = "--" BOUNDARY "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"bench.sif\"\r\n"
                               "Content-Type: application/octet-stream\r\n\r\n";
static const char EPILOGUE[] = "\r\n--" BOUNDARY "--\r\n";

enum kind { UPLOAD, PUT, GET, CONNECT };

static struct {
    enum kind kind;
    int port, connections;
    const char *path, *token, *host, *accept;
    long requests;
    long long size, rate;
    double seconds;
    SSL_CTX *tls;
} options = {.connections = 1, .requests = 1, .host = "localhost"};

static unsigned char *noise;
static atomic_long numbers;
static long run_stamp;

struct worker {
    pthread_t thread;
    struct wire wire;
    unsigned char *block;
    double *latency; /* seconds, one per finished request */
    long finished, failed;
    long long bytes;
    int status; /* of the last failed answer */
};

static void pace(double begun, long long sent) {
    if (!options.rate) return;
    double due = begun + (double)sent / (double)options.rate, wait = due - now_s();
    if (wait > 0) nanosleep(&(struct timespec){(time_t)wait, (long)((wait - (double)(time_t)wait) * 1e9)}, NULL);
}

static int send_bytes(struct worker *k, long number) {
    size_t step = options.rate ? (size_t)(options.rate / 10 ? options.rate / 10 : 1) : RANDOM_BYTES;
    if (step > RANDOM_BYTES) step = RANDOM_BYTES;
    double begun = now_s();
    long stamp[2] = {run_stamp, number};
    long long left = options.size;
    /* the first block is a copy with a stamp in it: no two files are equal */
    size_t first = left < 65536 ? (size_t)left : 65536;
    if (first > step) first = step;
    memcpy(k->block, noise, first);
    memcpy(k->block, stamp, first < sizeof stamp ? first : sizeof stamp);
    if (wire_write(&k->wire, k->block, first)) return -1;
    left -= (long long)first;
    while (left > 0) {
        size_t count = left < (long long)step ? (size_t)left : step;
        if (wire_write(&k->wire, noise, count)) return -1;
        left -= (long long)count;
        pace(begun, options.size - left);
    }
    return 0;
}

static int read_exactly(struct worker *k, long long left) {
    while (left > 0) {
        long got = wire_read(&k->wire, k->block, left < RANDOM_BYTES ? (size_t)left : RANDOM_BYTES);
        if (got <= 0) return -1;
        left -= got;
        k->bytes += got;
    }
    return 0;
}

static int read_line(struct worker *k, char *line, size_t room) {
    for (size_t i = 0; i + 1 < room; i++) {
        if (wire_read(&k->wire, line + i, 1) != 1) return -1;
        if (line[i] == '\n') {
            line[i] = 0;
            return 0;
        }
    }
    return -1;
}

static int read_chunks(struct worker *k) {
    char line[64];
    for (;;) {
        if (read_line(k, line, sizeof line)) return -1;
        long long size = strtoll(line, NULL, 16);
        if (read_exactly(k, size) || read_line(k, line, sizeof line)) return -1;
        if (!size) return 0;
    }
}

/* 0 = fine and reusable, 1 = fine and to be closed, -1 = failed */
static int read_answer(struct worker *k) {
    char head[16384];
    if (wire_read_head(&k->wire, head, sizeof head) <= 0) return -1;
    k->status = atoi(head + 9);
    long long length = head_length(head);
    int failed = head_has(head, "transfer-encoding", "chunked") ? read_chunks(k) : read_exactly(k, length > 0 ? length : 0);
    if (failed || k->status < 200 || k->status >= 300) {
        int wanted = options.kind == GET && k->status == 503; /* the maintenance row asks for it */
        if (failed || !wanted) return -1;
    }
    return head_has(head, "connection", "close") || options.kind == CONNECT;
}

static size_t make_head(char *head, size_t room, long number) {
    static const char *methods[] = {"POST", "PUT", "GET", "GET"};
    char path[2048], *mark;
    snprintf(path, sizeof path, "%s", options.path);
    if ((mark = strchr(path, '%'))) {
        char rest[2048];
        snprintf(rest, sizeof rest, "%s", mark + 1);
        snprintf(mark, (size_t)(path + sizeof path - mark), "%ld%s", number, rest);
    }
    int n = snprintf(head, room, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\n", methods[options.kind], path, options.host);
    if (options.token) n += snprintf(head + n, room - (size_t)n, "Authorization: Bearer %s\r\n", options.token);
    if (options.accept) n += snprintf(head + n, room - (size_t)n, "Accept: %s\r\n", options.accept);
    if (options.kind == UPLOAD)
        n += snprintf(head + n, room - (size_t)n, "Content-Type: multipart/form-data; boundary=" BOUNDARY "\r\nContent-Length: %lld\r\n",
                      options.size + (long long)(sizeof PROLOGUE + sizeof EPILOGUE - 2));
    if (options.kind == PUT) n += snprintf(head + n, room - (size_t)n, "Content-Length: %lld\r\n", options.size);
    return (size_t)(n + snprintf(head + n, room - (size_t)n, "\r\n"));
}

static int one_request(struct worker *k) {
    char head[8192];
    long number = atomic_fetch_add(&numbers, 1);
    if (k->wire.fd < 0 && wire_connect(&k->wire, "127.0.0.1", options.port, options.tls)) return -1;
    size_t length = make_head(head, sizeof head - sizeof PROLOGUE, number);
    if (options.kind == UPLOAD) {
        memcpy(head + length, PROLOGUE, sizeof PROLOGUE - 1);
        length += sizeof PROLOGUE - 1;
    }
    if (wire_write(&k->wire, head, length)) return -1;
    if (options.kind == UPLOAD || options.kind == PUT) {
        if (send_bytes(k, number)) {
            read_answer(k); /* a refusal may have come early: keep its status */
            return -1;
        }
        k->bytes += options.size;
    }
    if (options.kind == UPLOAD && wire_write(&k->wire, EPILOGUE, sizeof EPILOGUE - 1)) return -1;
    return read_answer(k);
}

static void *work(void *argument) {
    struct worker *k = argument;
    double end = options.seconds > 0 ? now_s() + options.seconds : 0;
    for (long i = 0; i < options.requests && (!end || now_s() < end); i++) {
        double begun = now_s();
        int result = one_request(k);
        if (result < 0) {
            k->failed++;
            wire_close(&k->wire);
            if (k->failed > 20) break;
            continue;
        }
        k->latency[k->finished++] = now_s() - begun;
        if (result) wire_close(&k->wire);
    }
    wire_close(&k->wire);
    return NULL;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(struct worker *workers, double seconds) {
    long finished = 0, failed = 0;
    long long bytes = 0;
    int status = 0;
    for (int i = 0; i < options.connections; i++) {
        finished += workers[i].finished;
        failed += workers[i].failed;
        bytes += workers[i].bytes;
        if (workers[i].failed) status = workers[i].status;
    }
    double *all = malloc((size_t)(finished + 1) * sizeof *all);
    long at = 0;
    for (int i = 0; i < options.connections; i++)
        for (long j = 0; j < workers[i].finished; j++) all[at++] = workers[i].latency[j];
    qsort(all, (size_t)finished, sizeof *all, by_value);
    double p50 = finished ? all[finished / 2] : 0, p99 = finished ? all[finished * 99 / 100] : 0;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)used.ru_utime.tv_sec + (double)used.ru_utime.tv_usec / 1e6 + (double)used.ru_stime.tv_sec +
                 (double)used.ru_stime.tv_usec / 1e6;
    printf("{\"finished\":%ld,\"failed\":%ld,\"failed_status\":%d,\"seconds\":%.6f,\"bytes\":%lld,\"mb_s\":%.1f,"
           "\"req_s\":%.1f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"generator_cpu_s\":%.3f}\n",
           finished, failed, status, seconds, bytes, (double)bytes / seconds / 1e6, (double)finished / seconds, p50 * 1e3,
           p99 * 1e3, cpu);
}

static int read_options(int argc, char **argv) {
    static const char *kinds[] = {"upload", "put", "get", "connect"};
    int kind = 0;
    if (argc < 4) return -1;
    while (kind < 4 && strcmp(argv[1], kinds[kind])) kind++;
    if (kind == 4) return -1;
    options.kind = (enum kind)kind;
    options.port = atoi(argv[2]);
    options.path = argv[3];
    for (int i = 4; i < argc; i++) {
        if (!strcmp(argv[i], "-tls")) {
            options.tls = SSL_CTX_new(TLS_client_method());
            SSL_CTX_set_session_cache_mode(options.tls, SSL_SESS_CACHE_OFF);
            continue;
        }
        if (i + 1 == argc) return -1;
        const char *flag = argv[i], *value = argv[++i];
        if (!strcmp(flag, "-c")) options.connections = atoi(value);
        else if (!strcmp(flag, "-n")) options.requests = atol(value);
        else if (!strcmp(flag, "-s")) options.size = atoll(value);
        else if (!strcmp(flag, "-r")) options.rate = atoll(value);
        else if (!strcmp(flag, "-t")) options.seconds = atof(value);
        else if (!strcmp(flag, "-token")) options.token = value;
        else if (!strcmp(flag, "-host")) options.host = value;
        else if (!strcmp(flag, "-accept")) options.accept = value;
        else return -1;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (read_options(argc, argv)) {
        fprintf(stderr, "usage: load upload|put|get|connect PORT PATH [-tls] [-c N] [-n N] [-s BYTES] [-r BYTES_PER_S] "
                        "[-t SECONDS] [-token T] [-host H] [-accept TYPE]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    run_stamp = now.tv_sec * 1000000000L + now.tv_nsec;
    numbers = run_stamp % 1000000000L * 1000;
    noise = malloc(RANDOM_BYTES);
    unsigned long long seed = (unsigned long long)run_stamp | 1;
    for (size_t i = 0; i < RANDOM_BYTES / 8; i++) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        memcpy(noise + 8 * i, &seed, 8);
    }
    struct worker *workers = calloc((size_t)options.connections, sizeof *workers);
    for (int i = 0; i < options.connections; i++) {
        workers[i].wire.fd = -1;
        workers[i].block = malloc(RANDOM_BYTES);
        workers[i].latency = malloc((size_t)options.requests * sizeof(double));
    }
    double begun = now_s();
    for (int i = 0; i < options.connections; i++) pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    for (int i = 0; i < options.connections; i++) pthread_join(workers[i].thread, NULL);
    report(workers, now_s() - begun);
    return 0;
}
