#include "identity/identity.h"

#include "identity/extension.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>

static const char scheme[] = "spiffe://";

const char *identity_kind_name(enum identity_kind kind)
{
    static const char *const names[IDENTITY_KIND_COUNT] = {
        [IDENTITY_MACHINE] = "machine",
        [IDENTITY_OPERATOR] = "operator",
        [IDENTITY_TASK] = "task",
    };
    return (unsigned)kind < IDENTITY_KIND_COUNT ? names[kind] : "?";
}

static bool all_of(const char *text, size_t length_max, bool any_case)
{
    size_t length = strnlen(text, length_max + 1);
    if (length == 0 || length > length_max) return false;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-') continue;
        if (any_case && ((c >= 'A' && c <= 'Z') || c == '.' || c == '_')) continue;
        return false;
    }
    return true;
}

bool identity_name_is_valid(const char *name)
{
    return all_of(name, IDENTITY_NAME_BYTES_MAX, true);
}

bool identity_computer_name_is_valid(const char *name)
{
    return all_of(name, LIMIT_NAME_BYTES_MAX, false);
}

void identity_format(const struct identity *identity, char ret_text[IDENTITY_TEXT_BYTES_MAX + 1])
{
    (void)snprintf(ret_text, IDENTITY_TEXT_BYTES_MAX + 1, "%s%s/%s/%s", scheme,
                   identity->computer_name, identity_kind_name(identity->kind), identity->name);
}

/* Copy what stands before the next '/' or the end; the place behind it, NULL when too long. */
static const char *take_part(const char *text, char *ret_part, size_t size)
{
    size_t length = strcspn(text, "/");
    if (length >= size) return NULL;
    memcpy(ret_part, text, length);
    ret_part[length] = '\0';
    return text + length;
}

enum status identity_parse(const char *text, struct identity *ret_identity)
{
    struct identity identity = { 0 };
    char kind[16];
    if (strncmp(text, scheme, sizeof scheme - 1) != 0) return STATUS_INVALID;
    text =
        take_part(text + sizeof scheme - 1, identity.computer_name, sizeof identity.computer_name);
    if (text == NULL || *text++ != '/') return STATUS_INVALID;
    text = take_part(text, kind, sizeof kind);
    if (text == NULL || *text++ != '/') return STATUS_INVALID;
    text = take_part(text, identity.name, sizeof identity.name);
    if (text == NULL || *text != '\0') return STATUS_INVALID;
    if (!identity_computer_name_is_valid(identity.computer_name) ||
        !identity_name_is_valid(identity.name))
        return STATUS_INVALID;
    for (unsigned i = 0; i < IDENTITY_KIND_COUNT; i++) {
        identity.kind = (enum identity_kind)i;
        if (strcmp(kind, identity_kind_name(identity.kind)) != 0) continue;
        *ret_identity = identity;
        return STATUS_OK;
    }
    return STATUS_INVALID;
}

/* The one URI among the subject's alternative names. */
static enum status read_uri(const X509 *certificate, struct identity *identity, struct error *error)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    const GENERAL_NAME *uri = NULL;
    int uri_count = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI) continue;
        uri = name;
        uri_count++;
    }
    enum status status = STATUS_DENIED;
    if (uri_count != 1) {
        (void)error_set(error, status, "the certificate carries %d SPIFFE ids instead of one",
                        uri_count);
    } else {
        const ASN1_IA5STRING *text = uri->d.uniformResourceIdentifier;
        char copy[IDENTITY_TEXT_BYTES_MAX + 1];
        const uint8_t *data = ASN1_STRING_get0_data(text);
        size_t size = (size_t)ASN1_STRING_length(text);
        bool fits = size < sizeof copy && memchr(data, 0, size) == NULL;
        if (fits) memcpy(copy, data, size);
        copy[fits ? size : 0] = '\0';
        status = identity_parse(copy, identity) == STATUS_OK ? STATUS_OK : STATUS_DENIED;
        if (status != STATUS_OK)
            (void)error_set(error, status,
                            "the certificate's name \"%s\" is not "
                            "spiffe://COMPUTER/machine|operator|task/NAME",
                            copy);
    }
    GENERAL_NAMES_free(names);
    return status;
}

static enum status read_extension(const X509 *certificate, struct identity *identity,
                                  struct error *error)
{
    ASN1_OBJECT *wanted = OBJ_txt2obj(EXTENSION_OID, 1);
    if (wanted == NULL) return error_set(error, STATUS_NO_MEMORY, "no memory for a certificate");
    int index = X509_get_ext_by_OBJ(certificate, wanted, -1);
    bool twice = index >= 0 && X509_get_ext_by_OBJ(certificate, wanted, index) >= 0;
    ASN1_OBJECT_free(wanted);
    if (index < 0 || twice)
        return error_set(error, STATUS_DENIED, "the certificate was not made by a computer");
    const ASN1_OCTET_STRING *data = X509_EXTENSION_get_data(X509_get_ext(certificate, index));
    enum status status =
        extension_decode(bytes_of(ASN1_STRING_get0_data(data), (size_t)ASN1_STRING_length(data)),
                         &identity->computer, &identity->expires_ms);
    if (status == STATUS_UNSUPPORTED)
        return error_set(error, STATUS_DENIED, "the certificate is of a newer version");
    if (status != STATUS_OK)
        return error_set(error, STATUS_DENIED, "the certificate's expiry is malformed");
    return STATUS_OK;
}

enum status identity_decode(const uint8_t *der, size_t size, struct identity *ret_identity,
                            struct error *error)
{
    if (size == 0 || size > IDENTITY_CERTIFICATE_BYTES_MAX)
        return error_set(error, STATUS_DENIED, "the certificate is empty or larger than 16 KiB");
    const unsigned char *at = der;
    X509 *certificate = d2i_X509(NULL, &at, (long)size);
    enum status status = STATUS_DENIED;
    if (certificate == NULL || at != der + size) {
        (void)error_set(error, status, "the certificate is damaged");
    } else if (X509_check_ca(certificate) != 0) {
        (void)error_set(error, status, "the certificate is an authority's, not a peer's");
    } else {
        struct identity identity = { 0 };
        status = read_uri(certificate, &identity, error);
        if (status == STATUS_OK) status = read_extension(certificate, &identity, error);
        if (status == STATUS_OK) *ret_identity = identity;
    }
    X509_free(certificate);
    ERR_clear_error();
    return status;
}

enum status identity_check(const struct identity *identity, const struct id *computer,
                           uint64_t computer_time_ms, struct error *error)
{
    char text[IDENTITY_TEXT_BYTES_MAX + 1];
    identity_format(identity, text);
    if (!id_equal(&identity->computer, computer))
        return error_set(error, STATUS_DENIED, "%s belongs to another computer", text);
    if (identity->expires_ms != IDENTITY_NEVER && identity->expires_ms <= computer_time_ms)
        return error_set(error, STATUS_DENIED,
                         "the certificate of %s has expired (in computer time); ask for a new one",
                         text);
    return STATUS_OK;
}
