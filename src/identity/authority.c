#include "identity/authority.h"

#include "identity/extension.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

enum { SERIAL_BYTES = 16, HOST_BYTES_MAX = 253, VALUE_BYTES_MAX = 8192 };

struct authority {
    X509 *certificate;
    EVP_PKEY *key;
    char computer_name[LIMIT_NAME_BYTES_MAX + 1];
    struct id computer;
};

/* The sentence of OpenSSL's latest complaint. */
static enum status openssl_failed(struct error *error, const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    (void)error_set(error, STATUS_INTERNAL, "%s: %s", what, reason == NULL ? "no reason" : reason);
    ERR_clear_error();
    return STATUS_INTERNAL;
}

/* --- parts of a certificate
 * -----------------------------------------------------------------------
 */

static bool add_extension(X509 *certificate, X509V3_CTX *context, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, context, nid, value);
    bool done = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return done;
}

static bool add_own_extension(X509 *certificate, const struct id *computer, uint64_t expires_ms)
{
    uint8_t bytes[EXTENSION_BYTES];
    extension_encode(computer, expires_ms, bytes);
    ASN1_OBJECT *object = OBJ_txt2obj(EXTENSION_OID, 1);
    ASN1_OCTET_STRING *data = ASN1_OCTET_STRING_new();
    X509_EXTENSION *extension = NULL;
    bool done = object != NULL && data != NULL && ASN1_OCTET_STRING_set(data, bytes, sizeof bytes);
    if (done) {
        /* Not critical: clients that do not know it accept the certificate. */
        extension = X509_EXTENSION_create_by_OBJ(NULL, object, 0, data);
        done = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    }
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(data);
    ASN1_OBJECT_free(object);
    return done;
}

static bool set_serial(X509 *certificate)
{
    uint8_t bytes[SERIAL_BYTES];
    if (RAND_bytes(bytes, sizeof bytes) != 1) return false;
    bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40); /* positive, and of the same length always */
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool done =
        number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return done;
}

static bool set_name(X509_NAME *name, const char *organization, const char *common_name)
{
    return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const uint8_t *)organization, -1,
                                      -1, 0) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)common_name, -1,
                                      -1, 0) == 1;
}

/* Version, serial, validity, key and subject: what all our certificates have. */
static X509 *certificate_begin(EVP_PKEY *key, const char *computer_name, const char *common_name)
{
    X509 *certificate = X509_new();
    if (certificate == NULL) return NULL;
    if (X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) &&
        ASN1_TIME_set_string(X509_getm_notBefore(certificate), "20000101000000Z") == 1 &&
        ASN1_TIME_set_string(X509_getm_notAfter(certificate), "99991231235959Z") == 1 &&
        X509_set_pubkey(certificate, key) == 1 &&
        set_name(X509_get_subject_name(certificate), computer_name, common_name))
        return certificate;
    X509_free(certificate);
    return NULL;
}

static EVP_PKEY *key_create(void)
{
    return EVP_EC_gen("P-256");
}

/* --- PEM ----------------------------------------------------------------------------------------
 */

static enum status bio_text(BIO *bio, char *ret_text, size_t size)
{
    char *data = NULL;
    long length = BIO_get_mem_data(bio, &data);
    if (length <= 0 || (size_t)length >= size) return STATUS_INTERNAL;
    memcpy(ret_text, data, (size_t)length);
    ret_text[length] = '\0';
    return STATUS_OK;
}

static enum status pem_of(X509 *certificate, EVP_PKEY *key, struct identity_pem *ret_pem)
{
    BIO *first = BIO_new(BIO_s_mem());
    BIO *second = BIO_new(BIO_s_mem());
    enum status status = STATUS_INTERNAL;
    if (first != NULL && second != NULL && PEM_write_bio_X509(first, certificate) == 1 &&
        PEM_write_bio_PKCS8PrivateKey(second, key, NULL, NULL, 0, NULL, NULL) == 1) {
        status = bio_text(first, ret_pem->certificate, sizeof ret_pem->certificate);
        if (status == STATUS_OK) status = bio_text(second, ret_pem->key, sizeof ret_pem->key);
    }
    BIO_free(first);
    BIO_free(second);
    return status;
}

static int no_password(char *bytes, int size, int is_write, void *user)
{
    (void)bytes, (void)size, (void)is_write, (void)user;
    return -1; /* an encrypted key is refused, never asked about */
}

/* --- the authority ------------------------------------------------------------------------------
 */

static bool fill_authority(struct authority *authority)
{
    char uri[LIMIT_NAME_BYTES_MAX + 32];
    (void)snprintf(uri, sizeof uri, "URI:spiffe://%s", authority->computer_name);
    X509 *certificate = certificate_begin(authority->key, authority->computer_name, "authority");
    authority->certificate = certificate;
    if (certificate == NULL) return false;
    X509V3_CTX context;
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    return X509_set_issuer_name(certificate, X509_get_subject_name(certificate)) == 1 &&
           add_extension(certificate, &context, NID_basic_constraints,
                         "critical,CA:TRUE,pathlen:0") &&
           add_extension(certificate, &context, NID_key_usage, "critical,keyCertSign,cRLSign") &&
           add_extension(certificate, &context, NID_subject_key_identifier, "hash") &&
           add_extension(certificate, &context, NID_subject_alt_name, uri) &&
           add_own_extension(certificate, &authority->computer, IDENTITY_NEVER) &&
           X509_sign(certificate, authority->key, EVP_sha256()) > 0;
}

enum status authority_create(const char *computer_name, const struct id *computer,
                             struct authority **ret_authority, struct error *error)
{
    if (!identity_computer_name_is_valid(computer_name))
        return error_set(error, STATUS_INVALID,
                         "\"%s\" can't be a computer's name: 1 to 63 of a-z, 0-9 and '-'",
                         computer_name);
    struct authority *authority = calloc(1, sizeof *authority);
    if (authority == NULL) return error_set(error, STATUS_NO_MEMORY, "no memory");
    (void)snprintf(authority->computer_name, sizeof authority->computer_name, "%s", computer_name);
    authority->computer = *computer;
    authority->key = key_create();
    if (authority->key == NULL || !fill_authority(authority)) {
        authority_destroy(authority);
        return openssl_failed(error, "can't make the computer's authority");
    }
    *ret_authority = authority;
    return STATUS_OK;
}

void authority_destroy(struct authority *authority)
{
    if (authority == NULL) return;
    X509_free(authority->certificate);
    EVP_PKEY_free(authority->key);
    free(authority);
}

/* The computer's id and name, from the authority's own certificate. */
static enum status read_computer(struct authority *authority, struct error *error)
{
    X509_NAME *subject = X509_get_subject_name(authority->certificate);
    int length = X509_NAME_get_text_by_NID(subject, NID_organizationName, authority->computer_name,
                                           sizeof authority->computer_name);
    if (length <= 0 || !identity_computer_name_is_valid(authority->computer_name))
        return error_set(error, STATUS_INVALID, "the authority's certificate names no computer");
    ASN1_OBJECT *wanted = OBJ_txt2obj(EXTENSION_OID, 1);
    int index = wanted == NULL ? -1 : X509_get_ext_by_OBJ(authority->certificate, wanted, -1);
    ASN1_OBJECT_free(wanted);
    uint64_t expires_ms;
    if (index >= 0) {
        const ASN1_OCTET_STRING *data =
            X509_EXTENSION_get_data(X509_get_ext(authority->certificate, index));
        if (extension_decode(
                bytes_of(ASN1_STRING_get0_data(data), (size_t)ASN1_STRING_length(data)),
                &authority->computer, &expires_ms) == STATUS_OK)
            return STATUS_OK;
    }
    return error_set(error, STATUS_INVALID, "the authority's certificate has no computer id");
}

enum status authority_load(const struct identity_pem *pem, struct authority **ret_authority,
                           struct error *error)
{
    struct authority *authority = calloc(1, sizeof *authority);
    BIO *certificate = BIO_new_mem_buf(pem->certificate, -1);
    BIO *key = BIO_new_mem_buf(pem->key, -1);
    enum status status = STATUS_INVALID;
    if (authority == NULL || certificate == NULL || key == NULL) {
        status = error_set(error, STATUS_NO_MEMORY, "no memory");
        goto out;
    }
    authority->certificate = PEM_read_bio_X509(certificate, NULL, no_password, NULL);
    authority->key = PEM_read_bio_PrivateKey(key, NULL, no_password, NULL);
    if (authority->certificate == NULL) {
        (void)error_set(error, status, "the authority's certificate is damaged");
    } else if (authority->key == NULL) {
        (void)error_set(error, status, "the authority's key is damaged");
    } else if (X509_check_private_key(authority->certificate, authority->key) != 1) {
        (void)error_set(error, status, "the authority's key does not belong to its certificate");
    } else {
        status = read_computer(authority, error);
    }
out:
    ERR_clear_error();
    BIO_free(certificate);
    BIO_free(key);
    if (status == STATUS_OK) {
        *ret_authority = authority;
    } else {
        authority_destroy(authority);
    }
    return status;
}

enum status authority_export(const struct authority *authority, struct identity_pem *ret_pem)
{
    return pem_of(authority->certificate, authority->key, ret_pem);
}

const char *authority_computer_name(const struct authority *authority)
{
    return authority->computer_name;
}

const struct id *authority_computer(const struct authority *authority)
{
    return &authority->computer;
}

/* --- issuing ------------------------------------------------------------------------------------
 */

static bool host_is_safe(const char *host)
{
    size_t length = strnlen(host, HOST_BYTES_MAX + 1);
    if (length == 0 || length > HOST_BYTES_MAX) return false;
    for (size_t i = 0; i < length; i++) {
        char c = host[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '.' || c == ':';
        if (!good) return false; /* a comma would start another name */
    }
    return true;
}

/* The subject's alternative names, in OpenSSL's notation. */
static enum status names_of(const struct authority *authority,
                            const struct authority_request *request, char *ret_value, size_t size,
                            struct error *error)
{
    struct identity identity = { .kind = request->kind };
    memcpy(identity.computer_name, authority->computer_name, sizeof identity.computer_name);
    (void)snprintf(identity.name, sizeof identity.name, "%s", request->name);
    char text[IDENTITY_TEXT_BYTES_MAX + 1];
    identity_format(&identity, text);
    size_t used = (size_t)snprintf(ret_value, size, "URI:%s", text);
    for (size_t i = 0; i < request->host_count; i++) {
        const char *host = request->hosts[i];
        if (!host_is_safe(host))
            return error_set(error, STATUS_INVALID, "\"%s\" is no host name or address", host);
        ASN1_OCTET_STRING *address = a2i_IPADDRESS(host);
        if (address == NULL && strchr(host, ':') != NULL)
            return error_set(error, STATUS_INVALID, "\"%s\" is no host name or address", host);
        used += (size_t)snprintf(ret_value + used, size - used, ",%s:%s",
                                 address == NULL ? "DNS" : "IP", host);
        ASN1_OCTET_STRING_free(address);
    }
    return STATUS_OK;
}
_Static_assert(VALUE_BYTES_MAX >
                   IDENTITY_TEXT_BYTES_MAX + 8 + AUTHORITY_HOSTS_MAX * (HOST_BYTES_MAX + 8),
               "all names fit");

static bool fill_leaf(X509 *certificate, const struct authority *authority,
                      const struct authority_request *request, const char *names)
{
    /* Only machines serve: an operator or a task can't pose as the computer. */
    const char *usage = request->kind == IDENTITY_MACHINE ? "serverAuth,clientAuth" : "clientAuth";
    X509V3_CTX context;
    X509V3_set_ctx(&context, authority->certificate, certificate, NULL, NULL, 0);
    return X509_set_issuer_name(certificate, X509_get_subject_name(authority->certificate)) == 1 &&
           add_extension(certificate, &context, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(certificate, &context, NID_key_usage, "critical,digitalSignature") &&
           add_extension(certificate, &context, NID_ext_key_usage, usage) &&
           add_extension(certificate, &context, NID_subject_key_identifier, "hash") &&
           add_extension(certificate, &context, NID_authority_key_identifier, "keyid") &&
           add_extension(certificate, &context, NID_subject_alt_name, names) &&
           add_own_extension(certificate, &authority->computer, request->expires_ms) &&
           X509_sign(certificate, authority->key, EVP_sha256()) > 0;
}

enum status authority_issue(const struct authority *authority,
                            const struct authority_request *request, struct identity_pem *ret_pem,
                            struct error *error)
{
    if ((unsigned)request->kind >= IDENTITY_KIND_COUNT || !identity_name_is_valid(request->name))
        return error_set(error, STATUS_INVALID,
                         "\"%s\" can't be a %s's name: 1 to 63 of letters, digits, '.', '_', '-'",
                         request->name, identity_kind_name(request->kind));
    if (request->host_count > AUTHORITY_HOSTS_MAX)
        return error_set(error, STATUS_INVALID, "a certificate names at most %d hosts",
                         AUTHORITY_HOSTS_MAX);
    char *names = malloc(VALUE_BYTES_MAX);
    if (names == NULL) return error_set(error, STATUS_NO_MEMORY, "no memory");
    enum status status = names_of(authority, request, names, VALUE_BYTES_MAX, error);
    if (status == STATUS_OK) {
        EVP_PKEY *key = key_create();
        X509 *certificate =
            key == NULL ? NULL : certificate_begin(key, authority->computer_name, request->name);
        if (certificate == NULL || !fill_leaf(certificate, authority, request, names) ||
            pem_of(certificate, key, ret_pem) != STATUS_OK)
            status = openssl_failed(error, "can't make a certificate");
        X509_free(certificate);
        EVP_PKEY_free(key);
    }
    free(names);
    return status;
}
