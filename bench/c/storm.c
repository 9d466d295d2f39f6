/* New TLS connections at a fixed rate, whether the server keeps up or not; a JSON object on standard output.
 *
 *   storm PORT PATH [-rate CONNECTIONS_PER_S] [-t SECONDS] [-patience SECONDS]
 *
 * Each one: a full handshake without resumption, one GET, close. Times count from the moment a connection was due, so
 * that a server which makes its clients wait cannot hide it. One thread, non-blocking. */
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256
#define ANSWER_BYTES 65536

static struct {
    int port;
    const char *path;
    double rate, seconds, patience;
} options = {.rate = 500, .seconds = 5, .patience = 10};

enum step { SHAKING, ASKING, READING, OVER };

struct visit {
    int fd;
    SSL *ssl;
    enum step step;
    double due, shaken, answered; /* 0 = not yet */
    char head[2048];
    size_t got;
    long long left; /* of the answer's content; -1 = its head is not complete */
};

static SSL_CTX *tls;
static int poller;
static struct visit *visits;
static long begun, open_now;

static void end_visit(struct visit *v) {
    if (v->step == OVER) return;
    v->step = OVER;
    if (v->answered > 0) SSL_shutdown(v->ssl);
    SSL_free(v->ssl);
    close(v->fd);
    open_now--;
}

static void begin_visit(struct visit *v, double due) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    int on = 1;
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    *v = (struct visit){.due = due, .left = -1, .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (v->fd < 0) {
        v->step = OVER;
        return;
    }
    open_now++;
    setsockopt(v->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    v->ssl = SSL_new(tls);
    SSL_set_fd(v->ssl, v->fd);
    SSL_set_tlsext_host_name(v->ssl, "localhost");
    SSL_set_connect_state(v->ssl);
    struct epoll_event wanted = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = v};
    if ((connect(v->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) ||
        epoll_ctl(poller, EPOLL_CTL_ADD, v->fd, &wanted))
        end_visit(v);
}

/* 1 = done, 0 = later, -1 = failed */
static int outcome(struct visit *v, int result) {
    if (result > 0) return 1;
    int error = SSL_get_error(v->ssl, result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static int read_some(struct visit *v) {
    static char content[ANSWER_BYTES];
    for (;;) {
        int in_head = v->left < 0;
        int got = in_head ? SSL_read(v->ssl, v->head + v->got, (int)(sizeof v->head - 1 - v->got))
                          : SSL_read(v->ssl, content, sizeof content);
        int result = outcome(v, got);
        if (result <= 0) return result;
        if (!in_head) {
            v->left -= got;
        } else {
            v->got += (size_t)got;
            v->head[v->got] = 0;
            char *end = strstr(v->head, "\r\n\r\n");
            if (!end) {
                if (v->got == sizeof v->head - 1) return -1;
                continue;
            }
            v->left = head_length(v->head);
            if (v->left < 0 || v->head[9] != '2') return -1;
            v->left -= (long long)(v->got - (size_t)(end + 4 - v->head));
        }
        if (v->left <= 0) return 1;
    }
}

static void go_on(struct visit *v) {
    int result = 1;
    if (v->step == SHAKING) {
        result = outcome(v, SSL_do_handshake(v->ssl));
        if (result > 0) {
            v->shaken = now_s();
            v->step = ASKING;
        }
    }
    if (v->step == ASKING) {
        char request[1024];
        int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                              options.path);
        result = outcome(v, SSL_write(v->ssl, request, length));
        if (result > 0) v->step = READING;
    }
    if (v->step == READING) {
        result = read_some(v);
        if (result > 0) {
            v->answered = now_s();
            end_visit(v);
        }
    }
    if (result < 0) end_visit(v);
}

static void run(long count) {
    struct epoll_event events[EVENTS];
    double start = now_s(), last = start + (double)count / options.rate + options.patience;
    while ((begun < count || open_now) && now_s() < last) {
        double now = now_s(), next = start + (double)begun / options.rate;
        while (begun < count && next <= now) {
            begin_visit(&visits[begun++], next);
            next = start + (double)begun / options.rate;
        }
        int wait_ms = begun < count ? (int)((next - now_s()) * 1e3) : 20;
        int ready = epoll_wait(poller, events, EVENTS, wait_ms < 0 ? 0 : wait_ms);
        for (int i = 0; i < ready; i++) {
            struct visit *v = events[i].data.ptr;
            if (v->step != OVER) go_on(v);
        }
    }
    for (long i = 0; i < begun; i++) end_visit(&visits[i]);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(void) {
    long shaken = 0, answered = 0;
    double *hands = malloc((size_t)(begun + 1) * sizeof *hands), *answers = malloc((size_t)(begun + 1) * sizeof *answers);
    for (long i = 0; i < begun; i++) {
        if (visits[i].shaken > 0) hands[shaken++] = visits[i].shaken - visits[i].due;
        if (visits[i].answered > 0) answers[answered++] = visits[i].answered - visits[i].due;
    }
    hands[shaken] = answers[answered] = 0;
    qsort(hands, (size_t)shaken, sizeof *hands, by_value);
    qsort(answers, (size_t)answered, sizeof *answers, by_value);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                 (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"begun\":%ld,\"shaken\":%ld,\"answered\":%ld,\"seconds\":%.3f,\"handshake_p50_ms\":%.2f,"
           "\"handshake_p99_ms\":%.2f,\"answer_p50_ms\":%.2f,\"answer_p99_ms\":%.2f,\"generator_cpu_s\":%.3f}\n",
           begun, shaken, answered, (double)begun / options.rate, hands[shaken / 2] * 1e3, hands[shaken * 99 / 100] * 1e3,
           answers[answered / 2] * 1e3, answers[answered * 99 / 100] * 1e3, cpu);
}

static int read_options(int argc, char **argv) {
    if (argc < 3 || argc % 2 == 0) return -1;
    options.port = atoi(argv[1]);
    options.path = argv[2];
    for (int i = 3; i < argc; i += 2) {
        if (!strcmp(argv[i], "-rate")) options.rate = atof(argv[i + 1]);
        else if (!strcmp(argv[i], "-t")) options.seconds = atof(argv[i + 1]);
        else if (!strcmp(argv[i], "-patience")) options.patience = atof(argv[i + 1]);
        else return -1;
    }
    return options.rate > 0 && options.seconds > 0 ? 0 : -1;
}

int main(int argc, char **argv) {
    if (read_options(argc, argv)) {
        fprintf(stderr, "usage: storm PORT PATH [-rate CONNECTIONS_PER_S] [-t SECONDS] [-patience SECONDS]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    tls = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    poller = epoll_create1(EPOLL_CLOEXEC);
    long count = (long)(options.rate * options.seconds);
    visits = calloc((size_t)count, sizeof *visits);
    run(count);
    report();
    return 0;
}
