/* N subscribers that only read: how fast a PUBLISH reaches the last of them.
 *
 * reader HOST PORT AUTH CHANNEL N: prints "ready" once all are subscribed; after that, when each of
 * them got a message, one line with the moment of the last one, in nanoseconds of CLOCK_MONOTONIC.
 * AUTH: what the command of that name takes; empty: it is not sent.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what) {
    perror(what);
    exit(1);
}

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int subscribed(const char *host, int port, const char *auth, const char *channel) {
    char ask[1024], answer[1024];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1) die("address");
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    int length = *auth ? snprintf(ask, sizeof ask, "AUTH %s\r\nSUBSCRIBE %s\r\n", auth, channel)
                       : snprintf(ask, sizeof ask, "SUBSCRIBE %s\r\n", channel);
    if (length >= (int)sizeof ask) die("length");
    if (write(fd, ask, length) != length) die("write");
    size_t got = 0;
    while (got < sizeof answer - 1) {
        ssize_t more = read(fd, answer + got, sizeof answer - 1 - got);
        if (more <= 0) die("read");
        answer[got += more] = 0;
        if (answer[0] == '-') {
            fprintf(stderr, "%s", answer);
            exit(1);
        }
        if (strstr(answer, ":1\r\n")) return fd;
    }
    die("answer");
    return -1;
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: reader HOST PORT AUTH CHANNEL N\n");
        return 2;
    }
    int count = atoi(argv[5]), queue = epoll_create1(0), heard = 0;
    static char data[65536];
    for (int i = 0; i < count; i++) {
        struct epoll_event what = {.events = EPOLLIN};
        what.data.fd = subscribed(argv[1], atoi(argv[2]), argv[3], argv[4]);
        if (epoll_ctl(queue, EPOLL_CTL_ADD, what.data.fd, &what)) die("epoll");
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[256];
        int some = epoll_wait(queue, events, 256, -1);
        for (int i = 0; i < some; i++) {
            ssize_t size = read(events[i].data.fd, data, sizeof data);
            if (size <= 0) return 0;
            if (data[size - 1] != '\n' || data[size - 2] != '\r') continue; /* the rest comes */
            if (++heard == count) {
                printf("%lld\n", now_ns());
                fflush(stdout);
                heard = 0;
            }
        }
    }
}
