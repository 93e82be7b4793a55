/* notifier SECONDS [never]: say READY=1 to NOTIFY_SOCKET after SECONDS (not at all with a second
 * argument), then sleep; end with status 5 half a second after SIGTERM. For tests. */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void say_ready(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (path == NULL || strlen(path) >= sizeof address.sun_path) exit(3);
    memcpy(address.sun_path, path, strlen(path));
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
    int socket_number = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sendto(socket_number, "READY=1", 7, 0, (struct sockaddr *)&address, size) != 7) exit(4);
    (void)close(socket_number);
}

int main(int argument_count, char **arguments)
{
    sigset_t term;
    int number;
    (void)sigemptyset(&term);
    (void)sigaddset(&term, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &term, NULL);
    if (argument_count > 1) (void)usleep((useconds_t)(atof(arguments[1]) * 1e6));
    if (argument_count <= 2) say_ready();
    (void)puts("waits");
    (void)fflush(stdout);
    (void)sigwait(&term, &number);
    (void)puts("saw SIGTERM");
    (void)fflush(stdout);
    (void)usleep(500000);
    return 5;
}
