// tcp-pair: a client and a server, its child, with an established TCP connection over 127.0.0.1. They exchange numbered
// messages, one a step; some are always under way, so that the queues of the connection hold data when it is dumped.
#include "steps.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

enum { UNDER_WAY = 4, WORDS = 500 };

struct Message { uint64_t number, verify, failures, content[WORDS]; };

static void writeContent(struct Message *m, uint64_t number, uint64_t seed) {
    m->number = number;
    for (uint64_t i = 0; i < WORDS; i++) m->content[i] = mix(number ^ (i << 40) ^ seed);
}

static bool hasContent(const struct Message *m, uint64_t number, uint64_t seed) {
    bool ok = m->number == number;
    for (uint64_t i = 0; i < WORDS; i++) ok &= m->content[i] == mix(number ^ (i << 40) ^ seed);
    return ok;
}

static bool sendMessage(int socket, const struct Message *m) {
    return send(socket, m, sizeof *m, MSG_NOSIGNAL) == sizeof *m;
}

static bool receiveMessage(int socket, struct Message *m) {
    return recv(socket, m, sizeof *m, MSG_WAITALL) == sizeof *m;
}

static bool sameEnds(int socket, const struct sockaddr_in *near, const struct sockaddr_in *far) {
    struct sockaddr_in a, b;
    socklen_t aSize = sizeof a, bSize = sizeof b;
    int noDelay = 0;
    socklen_t size = sizeof noDelay;
    return getsockname(socket, (struct sockaddr *)&a, &aSize) == 0 && getpeername(socket, (struct sockaddr *)&b, &bSize) == 0
        && getsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &noDelay, &size) == 0 && noDelay != 0
        && a.sin_port == near->sin_port && b.sin_port == far->sin_port
        && a.sin_addr.s_addr == near->sin_addr.s_addr && b.sin_addr.s_addr == far->sin_addr.s_addr;
}

static void endsOf(int socket, struct sockaddr_in *near, struct sockaddr_in *far) {
    socklen_t size = sizeof *near;
    int on = 1;
    if (getsockname(socket, (struct sockaddr *)near, &size) < 0 || getpeername(socket, (struct sockaddr *)far, &size) < 0
        || setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        err(1, "the connection");
}

static void __attribute__((noreturn)) serve(int listener) {
    struct sockaddr_in near, far;
    static struct Message m;
    int client = accept(listener, NULL, NULL);
    if (client < 0) err(1, "accept");
    endsOf(client, &near, &far);
    for (uint64_t number = 1;; number++) {
        if (!receiveMessage(client, &m)) exit(1);
        bool ok = expect(hasContent(&m, number, 1), "server", "a message");
        if (m.verify) {
            ok &= expect(sameEnds(client, &near, &far), "server", "the connection");
            logLine("# server (pid %d): verified, %s", (int)getpid(), ok ? "ok" : "FAILED");
        }
        m.failures = !ok;
        writeContent(&m, number, 2);
        if (!sendMessage(client, &m)) exit(1);
    }
}

int main(int argc, char **argv) {
    parseOptions(argc, argv, 0, "");
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, near, far;
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), server = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || server < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 1) < 0
        || getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        err(1, "socket");
    pid_t child = fork();
    if (child < 0) err(1, "fork");
    if (child == 0) {
        close(server);
        serve(listener);  // which keeps listening, as servers do
    }
    close(listener);
    if (connect(server, (struct sockaddr *)&address, size) < 0) err(1, "connect");
    endsOf(server, &near, &far);
    verifyOnSignal();
    logLine("# tcp-pair pid %d server pid %d port %d", (int)getpid(), (int)child, ntohs(address.sin_port));

    static struct Message m;
    for (uint64_t sent = 1;; sent++) {
        m.verify = takeVerificationWanted();
        writeContent(&m, sent, 1);
        if (!expect(sendMessage(server, &m), "client", "the connection")) exit(1);
        if (sent > UNDER_WAY) {
            uint64_t step = sent - UNDER_WAY;
            if (!expect(receiveMessage(server, &m), "client", "the connection")) exit(1);
            bool ok = expect(hasContent(&m, step, 2), "client", "an answer") && m.failures == 0;
            logStep(step, ok);
            if (m.verify) logVerify(step, ok & expect(sameEnds(server, &near, &far), "client", "the connection"));
        }
        pause_(intervalMs);
    }
}
