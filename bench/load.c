/*
 * Asks over a Unix socket as fast as it is answered, on a fixed number of connections, and prints what came of it.
 *
 *     load SOCKET CONNECTIONS WARM SECONDS BODY [keep|new|raw [RATE]] < REQUEST_HEAD
 *
 * The head of the request comes on standard input; BODY bytes follow it each time. What happens in the first WARM
 * seconds is not counted, so that connections and whatever stands behind them are open. Answers must say how long they
 * are; any status but 2xx, and an answer that breaks off, ends the program with exit code 1 and one line that says why.
 * One line of JSON is printed; times in microseconds.
 *
 * keep: every connection asks again when it has its whole answer. new: each request has a connection of its own, of
 * which so many are open at a time. raw: the same without HTTP: the answer is all that comes until the end of the
 * connection, and is good if it is not empty.
 *
 * With a RATE so many requests are due each second, evenly, in turns on all connections, whether those before are
 * answered or not, and the time of an answer counts from when its request was due: who stalls is not spared.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_HEAD 16384        /* bytes of an answer's head */
#define MAX_CONNECTIONS 1024
#define PIECE (256 * 1024)    /* bytes that are read or written at once */
#define PATIENCE 30000        /* milliseconds without any event after which the server is given up */
#define SPIN 0.002            /* seconds before the next request is due that are not slept: waking takes a tenth of it */

enum mode { KEEP, NEW, RAW };

struct connection {
    int descriptor;
    double began;             /* when its request did, or was due, in seconds */
    double due;               /* when its next one is, where there is a rate */
    bool waits;               /* for that time */
    size_t to_send;           /* bytes of the request that have not gone out */
    char head[MAX_HEAD];
    size_t head_size;
    bool in_body;
    size_t left;              /* bytes of the answer's body that are missing */
    bool wants_to_write;      /* as epoll knows it */
};

static char request_head[MAX_HEAD];
static size_t request_head_size, request_body;
static char piece[PIECE], zeros[PIECE];
static struct connection connections[MAX_CONNECTIONS];
static struct sockaddr_un address;
static enum mode mode;
static double interval;       /* seconds between two requests of one connection; 0: as soon as it can */
static int number;            /* of connections */
static int poller;
static bool counting;
static unsigned long long received;
static float *waits;
static size_t answers, room;

static void give_up(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void watch(struct connection *one, bool write, int change) {
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = one};
    if (change == EPOLL_CTL_MOD && one->wants_to_write == write) return;
    one->wants_to_write = write;
    if (epoll_ctl(poller, change, one->descriptor, &event) < 0) give_up("epoll_ctl: %s", strerror(errno));
}

static void send_on(struct connection *one) {
    while (one->to_send) {
        const char *from = zeros;
        size_t size = one->to_send;
        if (size > request_body) {
            size -= request_body;
            from = request_head + request_head_size - size;
        } else if (size > PIECE) {
            size = PIECE;
        }
        ssize_t sent = send(one->descriptor, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) break;
        if (sent < 0) give_up("send: %s", strerror(errno));
        one->to_send -= (size_t)sent;
    }
    watch(one, one->to_send > 0, EPOLL_CTL_MOD);
}

static void open_connection(struct connection *one) {
    one->descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
    if (one->descriptor < 0) give_up("socket: %s", strerror(errno));
    if (connect(one->descriptor, (struct sockaddr *)&address, sizeof address) < 0)
        give_up("connect: %s", strerror(errno));
    watch(one, false, EPOLL_CTL_ADD);
}

static void ask(struct connection *one) {
    one->began = interval ? one->due : now();
    one->waits = false;
    if (mode != KEEP) open_connection(one);
    one->to_send = request_head_size + request_body;
    one->head_size = 0;
    one->in_body = false;
    send_on(one);
}

static void note(double seconds) {
    if (!counting) return;
    if (answers == room) {
        room = room ? 2 * room : 1 << 16;
        waits = realloc(waits, room * sizeof *waits);
        if (!waits) give_up("out of memory");
    }
    waits[answers++] = (float)(seconds * 1e6);
}

/* Reads the head in one->head, which ends in an empty line; gives the length of the body. */
static size_t body_length(struct connection *one, size_t head_size) {
    one->head[head_size - 2] = 0;
    int status = head_size > 12 ? atoi(one->head + 9) : 0;
    if (status < 200 || status > 299) give_up("answered with %.300s", one->head);
    for (char *line = strstr(one->head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, "content-length:", 15)) return strtoull(line + 17, NULL, 10);
    if (status == 204) return 0;
    give_up("an answer without a length: %.300s", one->head);
    return 0;
}

static void answered(struct connection *one) {
    if (one->to_send) give_up("answered before the whole request was taken");
    double at = now();
    note(at - one->began);
    if (mode != KEEP) close(one->descriptor);
    one->due += interval;
    if (interval && one->due > at) one->waits = true;
    else ask(one);
}

/* Takes in what is in *piece*. */
static void take(struct connection *one, size_t size) {
    if (!one->in_body) {
        memcpy(one->head + one->head_size, piece, size);
        size_t before = one->head_size;
        one->head_size += size;
        one->head[one->head_size] = 0;
        char *end = memmem(one->head, one->head_size, "\r\n\r\n", 4);
        if (!end) {
            if (one->head_size >= MAX_HEAD - 1) give_up("a head without an end");
            return;
        }
        size_t head_size = (size_t)(end - one->head) + 4;
        one->left = body_length(one, head_size);
        one->in_body = true;
        size -= head_size - before;
    }
    if (size > one->left) give_up("more bytes than the answer has");
    one->left -= size;
    if (!one->left) answered(one);
}

static void receive(struct connection *one) {
    /* While the head is missing no more is read than has room beside it. */
    size_t size = one->in_body || mode == RAW ? PIECE : MAX_HEAD - 1 - one->head_size;
    ssize_t got = recv(one->descriptor, piece, size, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got < 0) give_up("recv: %s", strerror(errno));
    if (counting) received += (size_t)got;
    if (mode == RAW) {
        one->head_size += (size_t)got;
        if (got) return;
        if (!one->head_size) give_up("no answer");
        answered(one);
        return;
    }
    if (!got) give_up("the connection was closed");
    take(one, (size_t)got);
}

/* Asks where it is time; gives the milliseconds to sleep until the next request is due, or until something is wrong. */
static int ask_those_due(double at) {
    if (!interval) return PATIENCE;
    double next = at + PATIENCE / 1000.0;
    for (struct connection *one = connections; one < connections + number; one++) {
        if (one->waits && one->due <= at) ask(one);
        if (one->waits && one->due < next) next = one->due;
    }
    return next - at < SPIN ? 0 : (int)((next - at - SPIN / 2) * 1000);
}

/* Runs until *end*, and where it counts until there is something to count. */
static void run_until(double end) {
    struct epoll_event events[64];
    double at, heard = now();
    while ((at = now()) < end || (counting && !answers)) {
        int ready = epoll_wait(poller, events, 64, ask_those_due(at));
        if (ready < 0 && errno != EINTR) give_up("epoll_wait: %s", strerror(errno));
        if (ready > 0) heard = now();
        else if (now() - heard > PATIENCE / 1000) give_up("no answer for %d s", PATIENCE / 1000);
        for (int number = 0; number < ready; number++) {
            struct connection *one = events[number].data.ptr;
            if (events[number].events & EPOLLOUT) send_on(one);
            if (events[number].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(one);
        }
    }
}

static int by_size(const void *first, const void *second) {
    float one = *(const float *)first, other = *(const float *)second;
    return (one > other) - (one < other);
}

static double quantile(double share) {
    size_t index = (size_t)(share * (double)answers);
    return answers ? waits[index < answers ? index : answers - 1] : 0;
}

static double processor(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
        + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int main(int count, char **arguments) {
    if (count < 6 || count > 8) give_up("usage: load SOCKET CONNECTIONS WARM SECONDS BODY [keep|new|raw [RATE]] < HEAD");
    address.sun_family = AF_UNIX;
    if (strlen(arguments[1]) >= sizeof address.sun_path) give_up("the path of the socket is too long");
    strcpy(address.sun_path, arguments[1]);
    number = atoi(arguments[2]);
    double warm = atof(arguments[3]), seconds = atof(arguments[4]);
    request_body = strtoull(arguments[5], NULL, 10);
    const char *named = count > 6 ? arguments[6] : "keep";
    mode = !strcmp(named, "new") ? NEW : !strcmp(named, "raw") ? RAW : KEEP;
    if (mode == KEEP && strcmp(named, "keep")) give_up("there is no mode %s", named);
    double rate = count > 7 ? atof(arguments[7]) : 0;
    request_head_size = fread(request_head, 1, sizeof request_head, stdin);
    if (number < 1 || number > MAX_CONNECTIONS) give_up("1 to %d connections", MAX_CONNECTIONS);
    poller = epoll_create1(0);
    if (mode == KEEP)
        for (struct connection *one = connections; one < connections + number; one++) open_connection(one);
    interval = rate > 0 ? number / rate : 0;
    double first = now();
    for (int place = 0; place < number; place++) {
        connections[place].due = first + place * (interval / number);
        if (interval) connections[place].waits = true;
        else ask(connections + place);
    }
    run_until(now() + warm);
    counting = true;
    double began = now(), used = processor();
    run_until(began + seconds);
    double lasted = now() - began;
    qsort(waits, answers, sizeof *waits, by_size);
    printf("{\"answers\": %zu, \"seconds\": %.6f, \"received\": %llu, \"processor\": %.6f, "
           "\"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f}\n",
           answers, lasted, received, processor() - used, quantile(0.5), quantile(0.99), quantile(0.999), quantile(1.0));
    return 0;
}
