// lab-host: what the lab needs from C. `lab prepare` compiles it, static, into the cache.
//   boot SETUP ARG...   starts a host: new namespaces, in which SETUP becomes pid 1 and ends by executing `init`
//   init                pid 1 of a host: reaps whatever is orphaned there
//   exec PID CMD...     runs CMD in the host whose pid 1 is PID, or (-d) starts it detached
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READY = 3 };  // the descriptor on which pid 1 tells `boot` that the host is set up

static const int namespaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC;

static void dieWith(int signal) {
    if (prctl(PR_SET_PDEATHSIG, signal) < 0) err(1, "PR_SET_PDEATHSIG");
}

// ---- boot -----------------------------------------------------------------------------------------------------------

// Prints the host's pid 1 (as the machine sees it) when the host is ready, then stays until SIGTERM, which it also gets
// when the lab dies; then ends the host. Never reaps pid 1 before that, so that its pid cannot come to mean another.
static int boot(char **setup) {
    pid_t lab = getppid();
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigprocmask(SIG_BLOCK, &end, NULL);
    signal(SIGINT, SIG_IGN);  // Ctrl+C reaches the whole foreground group: the lab decides what it means
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    dieWith(SIGTERM);
    if (getppid() != lab) return 1;

    int ready[2], alive[2];
    if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(alive, O_CLOEXEC | O_NONBLOCK) < 0) err(1, "pipe");

    pid_t pid = (pid_t)syscall(SYS_clone, namespaces | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid < 0) err(1, "cannot make namespaces (root is needed)");
    if (pid == 0) {
        // If boot died before this took effect, the pipe that only boot writes to is at its end
        char byte;
        dieWith(SIGKILL);
        close(alive[1]);
        if (read(alive[0], &byte, 1) == 0) _exit(1);
        sigprocmask(SIG_UNBLOCK, &end, NULL);
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) err(1, "cannot make mounts private");
        int copy = fcntl(ready[1], F_DUPFD_CLOEXEC, 10);  // out of the way first: READY may be taken
        if (copy < 0 || dup2(copy, READY) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) err(1, "dup");
        close_range(READY + 1, ~0U, CLOSE_RANGE_CLOEXEC);
        execv(setup[0], setup);
        err(1, "%s", setup[0]);
    }

    char byte;
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return 1;
    }
    printf("%d\n", pid);
    fclose(stdout);
    close_range(READY, ~0U, CLOSE_RANGE_CLOEXEC);

    int signal;
    while (sigwait(&end, &signal) != 0) { }
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) { }  // returns when every process of the host is gone
    return 0;
}

// ---- init -----------------------------------------------------------------------------------------------------------

static int init(void) {
    sigset_t all, child;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    setsid();
    if (chdir("/") < 0 || write(READY, "", 1) != 1) return 1;
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++) dup2(null, fd);
    close_range(3, ~0U, 0);
    for (;;) {
        while (waitpid(-1, NULL, WNOHANG) > 0) { }
        sigwaitinfo(&child, NULL);
    }
}

// ---- exec -----------------------------------------------------------------------------------------------------------

static pid_t command;

static void forward(int signal, siginfo_t *info, void *context) {
    (void)context;
    if (info->si_code != SI_KERNEL) kill(command, signal);  // what a terminal sends, the command gets as well
}

static const int forwarded[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };

static void run(char **argv) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int s = 1; s < NSIG; s++) signal(s, SIG_DFL);
    umask(022);
    execvp(argv[0], argv);
}

// As a process that CRIU can dump: a session of its own, nothing open but files of the host's root, child of pid 1.
// Prints its pid, which is known for sure: it is what fork returned inside the host.
static int startDetached(char **argv, const char *log) {
    int failed[2];
    if (pipe2(failed, O_CLOEXEC) < 0) err(1, "pipe");
    pid_t pid = fork();
    if (pid < 0) err(1, "fork");
    if (pid == 0) {
        setsid();
        int in = open("/dev/null", O_RDONLY);
        int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
        int report = fcntl(failed[1], F_DUPFD_CLOEXEC, 100);
        if (in >= 0 && out >= 0 && report >= 0 && dup2(in, 0) == 0 && dup2(out, 1) == 1 && dup2(out, 2) == 2) {
            close_range(3, (unsigned)report - 1, 0);
            close_range((unsigned)report + 1, ~0U, 0);
            run(argv);
        }
        int error = errno;
        _exit(write(report, &error, sizeof error) == sizeof error ? 127 : 126);
    }
    int error;
    close(failed[1]);
    if (read(failed[0], &error, sizeof error) == sizeof error) {
        waitpid(pid, NULL, 0);
        errno = error;
        err(127, "%s", argv[0]);
    }
    printf("%d\n", pid);
    return fflush(stdout) == 0 ? 0 : 1;
}

static int execIn(int argc, char **argv) {
    const char *log = "/dev/null";
    int detach = 0, option;
    clearenv();
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("HOME", "/root", 1);
    setenv("LANG", "C.UTF-8", 1);
    while ((option = getopt(argc, argv, "+de:l:")) != -1) {
        if (option == 'd') detach = 1;
        else if (option == 'l') log = optarg;
        else if (option == 'e' && strchr(optarg, '=')) putenv(optarg);
        else errx(2, "usage: lab-host exec [-d [-l LOG]] [-e NAME=VALUE]... PID CMD...");
    }
    if (argc - optind < 2) errx(2, "exec: PID and CMD are needed");
    argv += optind;

    int host = (int)syscall(SYS_pidfd_open, atoi(argv[0]), 0);
    if (host < 0 || setns(host, namespaces) < 0) err(125, "cannot enter the host of pid %s", argv[0]);
    close_range(3, ~0U, 0);
    if (chdir("/root") < 0) err(125, "/root");

    struct sigaction action = { .sa_sigaction = forward, .sa_flags = SA_RESTART | SA_SIGINFO };
    sigset_t blocked, before;
    sigfillset(&blocked);
    sigprocmask(SIG_BLOCK, &blocked, &before);  // nothing may be forwarded before there is a command
    int alive[2];
    if (pipe2(alive, O_CLOEXEC | O_NONBLOCK) < 0) err(125, "pipe");
    command = fork();
    if (command < 0) err(125, "fork");
    if (command == 0) {
        if (detach) exit(startDetached(argv + 1, log));
        // Whoever kills `lab exec` means the command
        char byte;
        dieWith(SIGKILL);
        close(alive[1]);
        if (read(alive[0], &byte, 1) == 0) _exit(1);
        run(argv + 1);
        err(errno == ENOENT ? 127 : 126, "%s", argv[1]);
    }
    for (size_t i = 0; i < sizeof forwarded / sizeof *forwarded; i++) sigaction(forwarded[i], &action, NULL);
    sigprocmask(SIG_SETMASK, &before, NULL);

    int status;
    while (waitpid(command, &status, 0) < 0)
        if (errno != EINTR) err(125, "waitpid");
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv) {
    const char *applet = argc > 1 ? argv[1] : "";
    if (argc > 2 && strcmp(applet, "boot") == 0) return boot(argv + 2);
    if (argc == 2 && strcmp(applet, "init") == 0) return init();
    if (strcmp(applet, "exec") == 0) return execIn(argc - 1, argv + 1);
    errx(2, "usage: lab-host boot|init|exec ...");
}
