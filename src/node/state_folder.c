#include "node/state_folder.h"

#include "base/random.h"
#include "identity/authority.h"
#include "reactor/host.h"
#include "reactor/reactor.h"
#include "store/superblock.h"

#include <stdio.h>
#include <stdlib.h>

enum { FOLDER_PATH_BYTES_MAX = 1024 };

#define ADDRESS_DEFAULT "127.0.0.1:7117"
#define NAME_DEFAULT    "computer"

static enum status explain(struct error *error, enum status status, const char *folder,
                           const char *path)
{
    const char *why = status == STATUS_DENIED ? "is read-only, or not allowed"
                      : status == STATUS_FULL ? "cannot be written: the disk is full"
                                              : status_name(status);
    return error_set(error, status, "%s/%s: %s", folder, path, why);
}

/* --- small files
 * ---------------------------------------------------------------------------------- */

static enum status read_text(struct disk *disk, const char *path, char *ret_text, size_t size)
{
    struct disk_file *file;
    enum status status = disk->open(disk, path, DISK_OPEN_READ, &file);
    if (status != STATUS_OK) return status;
    size_t used;
    status = disk->read(file, 0, ret_text, size - 1, &used);
    disk->close(file);
    if (status == STATUS_OK && used == size - 1) return STATUS_CORRUPT;
    if (status == STATUS_OK) ret_text[used] = '\0';
    return status;
}

/* Whole or not at all, durable on STATUS_OK. */
static enum status write_text(struct disk *disk, const char *path, const char *text)
{
    char part[DISK_PATH_BYTES_MAX + 1];
    (void)snprintf(part, sizeof part, "%s.new", path);
    struct disk_file *file;
    enum status status = disk->open(disk, part, DISK_OPEN_WRITE | DISK_OPEN_CREATE, &file);
    if (status != STATUS_OK) return status;
    status = disk->truncate(file, 0);
    if (status == STATUS_OK) status = disk->write(file, 0, text, strlen(text));
    if (status == STATUS_OK) status = disk->sync(file);
    disk->close(file);
    if (status == STATUS_OK) status = disk->rename(disk, part, path);
    return status;
}

static enum status make_folder(struct disk *disk, const char *path)
{
    enum status status = disk->make_folder(disk, path);
    return status == STATUS_EXISTS ? STATUS_OK : status;
}

/* --- config
 * --------------------------------------------------------------------------------------- */

static char *config_field(struct state_folder_config *config, const char *key, size_t key_size,
                          size_t *ret_size)
{
    if (key_size == 4 && memcmp(key, "name", 4) == 0) {
        *ret_size = sizeof config->name;
        return config->name;
    }
    if (key_size == 7 && memcmp(key, "machine", 7) == 0) {
        *ret_size = sizeof config->machine;
        return config->machine;
    }
    if (key_size == 7 && memcmp(key, "address", 7) == 0) {
        *ret_size = sizeof config->address;
        return config->address;
    }
    return NULL;
}

static enum status parse_line(const char *line, size_t size, unsigned number,
                              struct state_folder_config *config, struct error *error)
{
    while (size > 0 && (line[size - 1] == ' ' || line[size - 1] == '\r')) size--;
    if (size == 0 || line[0] == '#') return STATUS_OK;
    const char *colon = memchr(line, ':', size);
    if (colon == NULL)
        return error_set(error, STATUS_INVALID, "config line %u: expected \"key: value\"", number);
    size_t key_size = (size_t)(colon - line), room;
    char *field = config_field(config, line, key_size, &room);
    if (field == NULL)
        return error_set(error, STATUS_INVALID,
                         "config line %u: unknown key \"%.*s\"; known are name, machine, address",
                         number, (int)(key_size > 40 ? 40 : key_size), line);
    const char *value = colon + 1;
    size_t value_size = size - key_size - 1;
    while (value_size > 0 && *value == ' ') {
        value++;
        value_size--;
    }
    if (value_size >= room || memchr(value, '\0', value_size) != NULL)
        return error_set(error, STATUS_INVALID, "config line %u: the value is too long", number);
    memcpy(field, value, value_size);
    field[value_size] = '\0';
    return STATUS_OK;
}

enum status state_folder_parse_config(const char *text, size_t size,
                                      struct state_folder_config *ret_config, struct error *error)
{
    struct state_folder_config config = { .name = "" };
    unsigned number = 0;
    while (size > 0) {
        const char *end = memchr(text, '\n', size);
        size_t line_size = end == NULL ? size : (size_t)(end - text);
        enum status status = parse_line(text, line_size, ++number, &config, error);
        if (status != STATUS_OK) return status;
        size_t used = end == NULL ? line_size : line_size + 1;
        text += used;
        size -= used;
    }
    *ret_config = config;
    return STATUS_OK;
}

static void fill(char *field, size_t size, const char *first, const char *second)
{
    if (first[0] != '\0')
        (void)snprintf(field, size, "%s", first);
    else if (field[0] == '\0')
        (void)snprintf(field, size, "%s", second);
}

static enum status settle_config(struct disk *disk, const char *folder,
                                 const struct state_folder_config *wanted,
                                 struct state_folder_config *ret_config, struct error *error)
{
    char text[STATE_FOLDER_CONFIG_BYTES_MAX], before[STATE_FOLDER_CONFIG_BYTES_MAX] = "";
    struct state_folder_config config = { .name = "" };
    enum status status = read_text(disk, "machine/config", before, sizeof before);
    if (status == STATUS_OK)
        status = state_folder_parse_config(before, strlen(before), &config, error);
    else if (status == STATUS_NOT_FOUND)
        status = STATUS_OK;
    else
        return explain(error, status, folder, "machine/config");
    if (status != STATUS_OK) return status;
    struct host_facts facts;
    host_read_facts(&facts);
    fill(config.name, sizeof config.name, wanted->name, NAME_DEFAULT);
    fill(config.machine, sizeof config.machine, wanted->machine, facts.name);
    fill(config.address, sizeof config.address, wanted->address, ADDRESS_DEFAULT);
    (void)snprintf(text, sizeof text,
                   "# What this machine must know before it can read the registry.\n"
                   "name: %s\nmachine: %s\naddress: %s\n",
                   config.name, config.machine, config.address);
    if (strcmp(text, before) != 0) {
        status = write_text(disk, "machine/config", text);
        if (status != STATUS_OK) return explain(error, status, folder, "machine/config");
    }
    *ret_config = config;
    return STATUS_OK;
}

/* --- a new computer
 * ------------------------------------------------------------------------------- */

static void random_of_kernel(struct random *random, void *ret_bytes, size_t size)
{
    (void)random;
    host_random(ret_bytes, size);
}

struct creation {
    struct disk *disk;
    const char *folder;
    const struct state_folder_config *config;
    struct superblock superblock;
    struct authority *authority;
    struct identity_pem own;    /* the authority's */
    struct identity_pem issued; /* the one in hand */
    struct error *error;
};

static enum status put(struct creation *creation, const char *path, const char *text)
{
    enum status status = write_text(creation->disk, path, text);
    return status == STATUS_OK ? status : explain(creation->error, status, creation->folder, path);
}

static enum status issue_machine(struct creation *creation)
{
    char host[NETWORK_ADDRESS_BYTES_MAX + 1];
    (void)snprintf(host, sizeof host, "%s", creation->config->address);
    char *colon = strrchr(host, ':');
    if (colon != NULL) *colon = '\0';
    char *name = host;
    if (name[0] == '[') {
        name++;
        name[strcspn(name, "]")] = '\0';
    }
    struct authority_request request = {
        .kind = IDENTITY_MACHINE,
        .name = creation->config->machine,
        .expires_ms = IDENTITY_NEVER,
        .hosts = { "localhost", "127.0.0.1", "::1", creation->config->machine, name },
        .host_count = 5,
    };
    bool known = name[0] == '\0' || strcmp(name, "localhost") == 0 ||
                 strcmp(name, "127.0.0.1") == 0 || strcmp(name, "::1") == 0;
    if (known) request.host_count = 4;
    enum status status =
        authority_issue(creation->authority, &request, &creation->issued, creation->error);
    if (status == STATUS_OK) status = put(creation, "machine/machine.key", creation->issued.key);
    if (status == STATUS_OK)
        status = put(creation, "machine/machine.crt", creation->issued.certificate);
    if (status == STATUS_OK)
        status = put(creation, "machine/authority.crt", creation->own.certificate);
    return status;
}

static enum status issue_operator(struct creation *creation)
{
    struct authority_request request = { .kind = IDENTITY_OPERATOR,
                                         .name = "first",
                                         .expires_ms = IDENTITY_NEVER };
    enum status status =
        authority_issue(creation->authority, &request, &creation->issued, creation->error);
    if (status == STATUS_OK) status = put(creation, "operator/operator.key", creation->issued.key);
    if (status == STATUS_OK)
        status = put(creation, "operator/operator.crt", creation->issued.certificate);
    if (status == STATUS_OK)
        status = put(creation, "operator/authority.crt", creation->own.certificate);
    return status;
}

static enum status make_authority(struct creation *creation)
{
    enum status status = authority_create(creation->config->name, &creation->superblock.computer,
                                          &creation->authority, creation->error);
    if (status != STATUS_OK) return status;
    status = authority_export(creation->authority, &creation->own);
    if (status == STATUS_OK) status = put(creation, "authority/authority.key", creation->own.key);
    if (status == STATUS_OK)
        status = put(creation, "authority/authority.crt", creation->own.certificate);
    return status;
}

static enum status make_computer(struct creation *creation)
{
    struct random random = { .fill = random_of_kernel };
    random_id(&random, &creation->superblock.computer);
    random_id(&random, &creation->superblock.machine);
    random_id(&random, &creation->superblock.disk_incarnation);
    creation->superblock.feature_level = 1;
    enum status status = make_authority(creation);
    if (status == STATUS_OK) status = issue_machine(creation);
    if (status == STATUS_OK) status = issue_operator(creation);
    authority_destroy(creation->authority);
    return status;
}

static enum status write_superblock(const char *data, const struct superblock *superblock,
                                    struct error *error)
{
    struct disk *disk;
    enum status status = blocking_disk_open(data, &disk, error);
    if (status != STATUS_OK) return status;
    status = superblock_write(disk, superblock, error);
    blocking_disk_close(disk);
    return status;
}

static enum status make_folders(struct disk *disk, const char *folder, struct error *error)
{
    static const char *const folders[] = { "data", "machine", "authority", "operator" };
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        enum status status = make_folder(disk, folders[i]);
        if (status != STATUS_OK) return explain(error, status, folder, folders[i]);
    }
    return STATUS_OK;
}

static enum status give_away(const char *folder, uint32_t owner, struct error *error)
{
    static const char *const folders[] = { "data", "machine" };
    enum status status = STATUS_OK;
    for (size_t i = 0; owner != 0 && status == STATUS_OK && i < 2; i++) {
        char path[FOLDER_PATH_BYTES_MAX];
        (void)snprintf(path, sizeof path, "%s/%s", folder, folders[i]);
        status = host_give_folder(path, owner, error);
    }
    return status;
}

static enum status create_on(struct disk *disk, const char *folder,
                             const struct state_folder_config *wanted, uint32_t owner,
                             struct error *error)
{
    enum status status = make_folders(disk, folder, error);
    /* The daemon's own user has to get through to data/ and machine/. */
    if (status == STATUS_OK && owner != 0) status = host_pass_folder(folder, error);
    if (status != STATUS_OK) return status;
    struct state_folder_config config;
    status = settle_config(disk, folder, wanted, &config, error);
    if (status != STATUS_OK) return status;
    char data[FOLDER_PATH_BYTES_MAX];
    (void)snprintf(data, sizeof data, "%s/data", folder);
    struct disk *data_disk;
    status = blocking_disk_open(data, &data_disk, error);
    if (status != STATUS_OK) return status;
    struct superblock found;
    status = superblock_read(data_disk, &found, error);
    blocking_disk_close(data_disk);
    if (status == STATUS_NOT_FOUND) {
        struct creation *creation = calloc(1, sizeof *creation);
        if (creation == NULL) return error_set(error, STATUS_NO_MEMORY, "out of memory");
        *creation =
            (struct creation) { .disk = disk, .folder = folder, .config = &config, .error = error };
        status = make_computer(creation);
        if (status == STATUS_OK) status = write_superblock(data, &creation->superblock, error);
        free(creation);
    }
    if (status != STATUS_OK) return status;
    char addresses[NETWORK_ADDRESS_BYTES_MAX + 2];
    (void)snprintf(addresses, sizeof addresses, "%s\n", config.address);
    status = write_text(disk, "operator/addresses", addresses);
    if (status != STATUS_OK) return explain(error, status, folder, "operator/addresses");
    return give_away(folder, owner, error);
}

enum status state_folder_create(const char *folder, const struct state_folder_config *config,
                                uint32_t owner, struct error *error)
{
    struct disk *disk;
    enum status status = blocking_disk_open(folder, &disk, error);
    if (status != STATUS_OK) return status;
    status = create_on(disk, folder, config, owner, error);
    blocking_disk_close(disk);
    return status;
}

enum status state_folder_read(const char *folder, struct state_folder *ret_state,
                              struct error *error)
{
    struct disk *disk;
    enum status status = blocking_disk_open(folder, &disk, error);
    if (status != STATUS_OK) return status;
    char text[STATE_FOLDER_CONFIG_BYTES_MAX];
    status = read_text(disk, "machine/config", text, sizeof text);
    if (status == STATUS_NOT_FOUND)
        (void)error_set(error, status, "there is no computer in %s; make one with `unum up`",
                        folder);
    else if (status != STATUS_OK)
        (void)explain(error, status, folder, "machine/config");
    if (status == STATUS_OK)
        status = state_folder_parse_config(text, strlen(text), &ret_state->config, error);
    const struct {
        const char *path;
        char *target;
    } files[] = {
        { "machine/machine.crt", ret_state->certificate },
        { "machine/machine.key", ret_state->key },
        { "machine/authority.crt", ret_state->authority },
    };
    for (size_t i = 0; status == STATUS_OK && i < 3; i++) {
        status = read_text(disk, files[i].path, files[i].target, STATE_FOLDER_PEM_BYTES_MAX);
        if (status != STATUS_OK) (void)explain(error, status, folder, files[i].path);
    }
    blocking_disk_close(disk);
    if (status != STATUS_OK) return status;
    char data[FOLDER_PATH_BYTES_MAX];
    (void)snprintf(data, sizeof data, "%s/data", folder);
    status = blocking_disk_open(data, &disk, error);
    if (status != STATUS_OK) return status;
    struct superblock superblock;
    status = superblock_read(disk, &superblock, error);
    blocking_disk_close(disk);
    if (status == STATUS_NOT_FOUND)
        return error_set(error, status, "the computer in %s is half made; run `unum up` again",
                         folder);
    if (status != STATUS_OK) return status;
    ret_state->computer = superblock.computer;
    ret_state->machine = superblock.machine;
    ret_state->disk_incarnation = superblock.disk_incarnation;
    return STATUS_OK;
}
