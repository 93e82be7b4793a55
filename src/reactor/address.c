/* Address text to socket address and back. Numbers are read in place; only a host name costs a
 * worker, because the system's resolver blocks. */
#include "base/parse.h"
#include "reactor/io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

_Static_assert(sizeof(struct sockaddr_storage) <= sizeof((struct address *)0)->storage,
               "an address holds every kind");
_Static_assert(sizeof((struct sockaddr_un *)0)->sun_path + 6 <= NETWORK_ADDRESS_BYTES_MAX,
               "a Unix address fits its text");

static const char UNIX_PREFIX[] = "unix:";

static enum status parse_unix(const char *text, struct address *ret_address, struct error *error)
{
    const char *path = text + sizeof UNIX_PREFIX - 1;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof address.sun_path)
        return error_set(error, STATUS_INVALID,
                         "address \"%.100s\": a Unix path has 1 to %zu bytes", text,
                         sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, size);
    *ret_address = (struct address) { .size = sizeof address };
    memcpy(ret_address->storage.bytes, &address, sizeof address);
    return STATUS_OK;
}

struct lookup {
    const char *host;
    struct address address;
    int result;
};

static void lookup_host(void *argument)
{
    struct lookup *lookup = argument;
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
    struct addrinfo *found = NULL;
    lookup->result = getaddrinfo(lookup->host, NULL, &hints, &found);
    if (lookup->result != 0) return;
    if (found->ai_addrlen > sizeof lookup->address.storage) {
        lookup->result = EAI_FAMILY;
    } else {
        memcpy(lookup->address.storage.bytes, found->ai_addr, found->ai_addrlen);
        lookup->address.size = found->ai_addrlen;
    }
    freeaddrinfo(found);
}

static void set_port(struct address *address, uint16_t port)
{
    /* The port stands at the same place in both kinds. */
    _Static_assert(offsetof(struct sockaddr_in, sin_port) ==
                       offsetof(struct sockaddr_in6, sin6_port),
                   "one place for the port");
    address->storage.bytes[offsetof(struct sockaddr_in, sin_port)] = (uint8_t)(port >> 8);
    address->storage.bytes[offsetof(struct sockaddr_in, sin_port) + 1] = (uint8_t)port;
}

static bool parse_number_host(const char *host, struct address *ret_address)
{
    struct sockaddr_in four = { .sin_family = AF_INET };
    struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
    if (inet_pton(AF_INET, host, &four.sin_addr) == 1) {
        *ret_address = (struct address) { .size = sizeof four };
        memcpy(ret_address->storage.bytes, &four, sizeof four);
        return true;
    }
    if (inet_pton(AF_INET6, host, &six.sin6_addr) == 1) {
        *ret_address = (struct address) { .size = sizeof six };
        memcpy(ret_address->storage.bytes, &six, sizeof six);
        return true;
    }
    return false;
}

/* Splits at the last colon. A host in brackets comes without them. */
static bool split(const char *text, char ret_host[NETWORK_ADDRESS_BYTES_MAX], uint16_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text) return false;
    const char *from = text;
    const char *to = colon;
    if (*from == '[') {
        if (to[-1] != ']') return false;
        from++;
        to--;
    } else if (memchr(from, ':', (size_t)(to - from)) != NULL) {
        return false; /* an IPv6 address without brackets: which colon? */
    }
    size_t size = (size_t)(to - from);
    uint64_t port;
    if (size == 0 || size >= NETWORK_ADDRESS_BYTES_MAX) return false;
    if (parse_u64(colon + 1, UINT16_MAX, &port) != STATUS_OK) return false;
    memcpy(ret_host, from, size);
    ret_host[size] = '\0';
    *ret_port = (uint16_t)port;
    return true;
}

enum status address_parse(struct reactor *reactor, const char *text, struct address *ret_address,
                          struct error *error)
{
    if (strncmp(text, UNIX_PREFIX, sizeof UNIX_PREFIX - 1) == 0)
        return parse_unix(text, ret_address, error);
    char host[NETWORK_ADDRESS_BYTES_MAX];
    uint16_t port;
    if (!split(text, host, &port))
        return error_set(error, STATUS_INVALID,
                         "address \"%.100s\": want HOST:PORT, [IPV6]:PORT or unix:/PATH", text);
    struct lookup lookup = { .host = host };
    if (!parse_number_host(host, &lookup.address)) {
        workers_run(reactor, lookup_host, &lookup);
        if (lookup.result != 0)
            return error_set(error, STATUS_UNAVAILABLE, "host \"%.100s\": %s", host,
                             gai_strerror(lookup.result));
    }
    set_port(&lookup.address, port);
    *ret_address = lookup.address;
    return STATUS_OK;
}

void address_format(const struct address *address, char ret_text[NETWORK_ADDRESS_BYTES_MAX])
{
    char host[INET6_ADDRSTRLEN] = "?";
    struct sockaddr_in6 six = { 0 };
    struct sockaddr_un local = { 0 };
    sa_family_t family;
    memcpy(&family, address->storage.bytes, sizeof family);
    memcpy(&six, address->storage.bytes, sizeof six);
    uint16_t port = ntohs(six.sin6_port);
    if (family == AF_INET) {
        const uint8_t *four = address->storage.bytes + offsetof(struct sockaddr_in, sin_addr);
        (void)inet_ntop(AF_INET, four, host, sizeof host);
        (void)snprintf(ret_text, NETWORK_ADDRESS_BYTES_MAX, "%s:%u", host, port);
    } else if (family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &six.sin6_addr, host, sizeof host);
        (void)snprintf(ret_text, NETWORK_ADDRESS_BYTES_MAX, "[%s]:%u", host, port);
    } else {
        size_t size = address->size < sizeof local ? address->size : sizeof local;
        memcpy(&local, address->storage.bytes, size);
        (void)snprintf(ret_text, NETWORK_ADDRESS_BYTES_MAX, "unix:%.*s", (int)sizeof local.sun_path,
                       local.sun_path);
    }
}
