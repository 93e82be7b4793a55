/* An identity read from a certificate is the one that was issued, and only our own are read.
 *
 * Method: make an authority, issue, decode; cut the DER at every length and change every byte;
 * check the chain as a TLS client does, with the calendar far in the past and in the future. */
#include "identity/authority.h"
#include "identity/extension.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct id computer = { { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 } };

static struct authority *authority_of(const char *name)
{
    struct authority *authority = NULL;
    struct error error = { 0 };
    if (authority_create(name, &computer, &authority, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return authority;
}

static X509 *certificate_of(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert_non_null(certificate);
    BIO_free(bio);
    return certificate;
}

static uint8_t *der_of(const char *pem, size_t *ret_size)
{
    X509 *certificate = certificate_of(pem);
    unsigned char *der = NULL;
    int size = i2d_X509(certificate, &der);
    assert_true(size > 0);
    X509_free(certificate);
    *ret_size = (size_t)size;
    return der;
}

static uint8_t *issue(const struct authority *authority, enum identity_kind kind, const char *name,
                      uint64_t expires_ms, size_t *ret_size)
{
    static struct identity_pem pem;
    struct authority_request request = { .kind = kind, .name = name, .expires_ms = expires_ms };
    struct error error = { 0 };
    if (authority_issue(authority, &request, &pem, &error) != STATUS_OK) fail_msg("%s", error.text);
    return der_of(pem.certificate, ret_size);
}

static void what_is_issued_is_what_is_read(void **state)
{
    (void)state;
    struct authority *authority = authority_of("home");
    for (unsigned kind = 0; kind < IDENTITY_KIND_COUNT; kind++) {
        size_t size;
        uint8_t *der = issue(authority, (enum identity_kind)kind, "Ada.L_1-x", 123456789, &size);
        struct identity identity;
        struct error error = { 0 };
        assert_int_equal(identity_decode(der, size, &identity, &error), STATUS_OK);
        assert_int_equal(identity.kind, kind);
        assert_string_equal(identity.computer_name, "home");
        assert_string_equal(identity.name, "Ada.L_1-x");
        assert_true(id_equal(&identity.computer, &computer));
        assert_int_equal(identity.expires_ms, 123456789);
        OPENSSL_free(der);
    }
    authority_destroy(authority);
}

static void an_authority_comes_back_from_its_texts(void **state)
{
    (void)state;
    static struct identity_pem pem, other;
    struct authority *authority = authority_of("home"), *loaded = NULL;
    struct error error = { 0 };
    assert_int_equal(authority_export(authority, &pem), STATUS_OK);
    assert_int_equal(authority_load(&pem, &loaded, &error), STATUS_OK);
    assert_string_equal(authority_computer_name(loaded), "home");
    assert_true(id_equal(authority_computer(loaded), &computer));
    authority_destroy(loaded);
    authority_destroy(authority);

    authority = authority_of("home");
    assert_int_equal(authority_export(authority, &other), STATUS_OK);
    authority_destroy(authority);
    memcpy(other.certificate, pem.certificate, sizeof pem.certificate);
    assert_int_equal(authority_load(&other, &loaded, &error), STATUS_INVALID);
    assert_string_equal(error.text, "the authority's key does not belong to its certificate");
    other.key[100] = '!';
    assert_int_equal(authority_load(&other, &loaded, &error), STATUS_INVALID);
    assert_string_equal(error.text, "the authority's key is damaged");
    other.certificate[0] = '\0';
    assert_int_equal(authority_load(&other, &loaded, &error), STATUS_INVALID);
    assert_string_equal(error.text, "the authority's certificate is damaged");
}

/* As TLS does it. Returns OpenSSL's verdict. */
static int verify(const char *authority_pem, const char *leaf_pem, time_t when, int purpose,
                  const char *host, const char *address)
{
    X509 *authority = certificate_of(authority_pem), *leaf = certificate_of(leaf_pem);
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    X509_STORE_add_cert(store, authority);
    X509_STORE_CTX_init(context, store, leaf, NULL);
    X509_VERIFY_PARAM *parameters = X509_STORE_CTX_get0_param(context);
    X509_VERIFY_PARAM_set_time(parameters, when);
    X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_X509_STRICT);
    X509_STORE_CTX_set_purpose(context, purpose);
    if (host != NULL) X509_VERIFY_PARAM_set1_host(parameters, host, 0);
    if (address != NULL) X509_VERIFY_PARAM_set1_ip_asc(parameters, address);
    int verdict = X509_verify_cert(context) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(context);
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    X509_free(authority);
    X509_free(leaf);
    return verdict;
}

static void a_strict_client_accepts_the_chain_in_any_year(void **state)
{
    (void)state;
    static struct identity_pem root, leaf, foreign;
    struct authority *authority = authority_of("home"), *other = authority_of("home");
    struct authority_request request = { .kind = IDENTITY_MACHINE,
                                         .name = "m1",
                                         .expires_ms = 1000,
                                         .hosts = { "localhost", "127.0.0.1", "::1" },
                                         .host_count = 3 };
    struct error error = { 0 };
    assert_int_equal(authority_issue(authority, &request, &leaf, &error), STATUS_OK);
    assert_int_equal(authority_issue(other, &request, &foreign, &error), STATUS_OK);
    assert_int_equal(authority_export(authority, &root), STATUS_OK);
    const time_t times[] = { 1000000000, 1800000000, 10000000000 };
    for (size_t i = 0; i < 3; i++) {
        const char *pem = root.certificate;
        assert_int_equal(
            verify(pem, leaf.certificate, times[i], X509_PURPOSE_SSL_SERVER, "localhost", NULL), 0);
        assert_int_equal(
            verify(pem, leaf.certificate, times[i], X509_PURPOSE_SSL_CLIENT, NULL, "::1"), 0);
        assert_int_equal(
            verify(pem, leaf.certificate, times[i], X509_PURPOSE_SSL_SERVER, "evil.example", NULL),
            X509_V_ERR_HOSTNAME_MISMATCH);
        assert_int_not_equal(
            verify(pem, foreign.certificate, times[i], X509_PURPOSE_SSL_SERVER, NULL, NULL), 0);
    }
    request.kind = IDENTITY_OPERATOR;
    assert_int_equal(authority_issue(authority, &request, &leaf, &error), STATUS_OK);
    assert_int_equal(
        verify(root.certificate, leaf.certificate, times[0], X509_PURPOSE_SSL_CLIENT, NULL, NULL),
        0);
    assert_int_equal(
        verify(root.certificate, leaf.certificate, times[0], X509_PURPOSE_SSL_SERVER, NULL, NULL),
        X509_V_ERR_INVALID_PURPOSE);
    authority_destroy(authority);
    authority_destroy(other);
}

static void every_truncation_and_every_extra_byte_is_refused(void **state)
{
    (void)state;
    struct authority *authority = authority_of("home");
    size_t size;
    uint8_t *der = issue(authority, IDENTITY_OPERATOR, "ada", IDENTITY_NEVER, &size);
    struct identity identity;
    struct error error = { 0 };
    for (size_t cut = 0; cut <= size + 1; cut++) {
        if (cut == size) continue;
        uint8_t *copy = calloc(1, cut + 1);
        assert_non_null(copy);
        memcpy(copy, der, cut < size ? cut : size);
        assert_int_equal(identity_decode(copy, cut, &identity, &error), STATUS_DENIED);
        free(copy);
    }
    OPENSSL_free(der);
    authority_destroy(authority);
}

static void a_changed_byte_never_makes_an_identity_of_another_shape(void **state)
{
    (void)state;
    struct authority *authority = authority_of("home");
    size_t size;
    uint8_t *der = issue(authority, IDENTITY_OPERATOR, "ada", 7, &size);
    for (size_t i = 0; i < size; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            struct identity identity, again;
            char text[IDENTITY_TEXT_BYTES_MAX + 1];
            der[i] ^= (uint8_t)(1 << bit);
            if (identity_decode(der, size, &identity, NULL) == STATUS_OK) {
                identity_format(&identity, text);
                assert_int_equal(identity_parse(text, &again), STATUS_OK);
            }
            der[i] ^= (uint8_t)(1 << bit);
        }
    }
    OPENSSL_free(der);
    authority_destroy(authority);
}

static void an_authority_is_not_a_peer_and_a_stranger_is_told_so(void **state)
{
    (void)state;
    static struct identity_pem pem;
    struct authority *authority = authority_of("home");
    struct identity identity;
    struct error error = { 0 };
    assert_int_equal(authority_export(authority, &pem), STATUS_OK);
    size_t size;
    uint8_t *der = der_of(pem.certificate, &size);
    assert_int_equal(identity_decode(der, size, &identity, &error), STATUS_DENIED);
    assert_string_equal(error.text, "the certificate is an authority's, not a peer's");
    OPENSSL_free(der);
    authority_destroy(authority);
    assert_int_equal(identity_decode((const uint8_t *)"", 0, &identity, &error), STATUS_DENIED);
}

static void an_identity_of_another_computer_or_of_the_past_is_denied(void **state)
{
    (void)state;
    struct identity identity = { .kind = IDENTITY_OPERATOR,
                                 .computer_name = "home",
                                 .name = "ada",
                                 .computer = computer,
                                 .expires_ms = 1000 };
    struct id other = computer;
    other.bytes[15]++;
    struct error error = { 0 };
    assert_int_equal(identity_check(&identity, &computer, 999, &error), STATUS_OK);
    assert_int_equal(identity_check(&identity, &computer, 1000, &error), STATUS_DENIED);
    assert_string_equal(error.text, "the certificate of spiffe://home/operator/ada has expired (in "
                                    "computer time); ask for a new one");
    assert_int_equal(identity_check(&identity, &other, 0, &error), STATUS_DENIED);
    assert_string_equal(error.text, "spiffe://home/operator/ada belongs to another computer");
    identity.expires_ms = IDENTITY_NEVER;
    assert_int_equal(identity_check(&identity, &computer, UINT64_MAX, &error), STATUS_OK);
}

static void names_are_bounded_and_plain(void **state)
{
    (void)state;
    struct identity identity;
    static const char too_long[] = "spiffe://home/operator/"
                                   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                   "aa";
    static const char *const bad[] = { "",
                                       "spiffe://",
                                       "http://home/operator/ada",
                                       "spiffe://home/operator",
                                       "spiffe://home/operator/",
                                       "spiffe://home/operator/a/b",
                                       "spiffe://home/king/ada",
                                       "spiffe://Home/operator/ada",
                                       "spiffe:///operator/ada",
                                       "spiffe://home/operator/a da",
                                       too_long };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(identity_parse(bad[i], &identity), STATUS_INVALID);
    struct authority *authority = authority_of("home"), *none = NULL;
    static struct identity_pem pem;
    struct error error = { 0 };
    struct authority_request request = { .kind = IDENTITY_OPERATOR, .name = "a/b" };
    assert_int_equal(authority_issue(authority, &request, &pem, &error), STATUS_INVALID);
    request.name = "ada";
    request.hosts[0] = "good,DNS:evil";
    request.host_count = 1;
    assert_int_equal(authority_issue(authority, &request, &pem, &error), STATUS_INVALID);
    assert_string_equal(error.text, "\"good,DNS:evil\" is no host name or address");
    request.hosts[0] = "a,b";
    assert_int_equal(authority_issue(authority, &request, &pem, &error), STATUS_INVALID);
    assert_int_equal(authority_create("No Name", &computer, &none, &error), STATUS_INVALID);
    authority_destroy(authority);
}

static void the_extension_is_exact(void **state)
{
    (void)state;
    uint8_t bytes[EXTENSION_BYTES + 1] = { 0 };
    struct id id;
    uint64_t expires_ms;
    extension_encode(&computer, 0x0102030405060708, bytes);
    assert_int_equal(extension_decode(bytes_of(bytes, EXTENSION_BYTES), &id, &expires_ms),
                     STATUS_OK);
    assert_true(expires_ms == 0x0102030405060708 && id_equal(&id, &computer));
    for (size_t size = 0; size <= sizeof bytes; size++)
        if (size != EXTENSION_BYTES)
            assert_int_equal(extension_decode(bytes_of(bytes, size), &id, &expires_ms),
                             STATUS_INVALID);
    bytes[2] = 2;
    assert_int_equal(extension_decode(bytes_of(bytes, EXTENSION_BYTES), &id, &expires_ms),
                     STATUS_UNSUPPORTED);
}

static void the_longest_names_fit(void **state)
{
    (void)state;
    static const char longest[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    assert_int_equal(strlen(longest), LIMIT_NAME_BYTES_MAX);
    struct authority *authority = authority_of(longest);
    size_t size;
    uint8_t *der = issue(authority, IDENTITY_OPERATOR, longest, 7, &size);
    struct identity identity;
    assert_int_equal(identity_decode(der, size, &identity, NULL), STATUS_OK);
    assert_string_equal(identity.computer_name, longest);
    assert_string_equal(identity.name, longest);
    OPENSSL_free(der);
    authority_destroy(authority);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_issued_is_what_is_read),
        cmocka_unit_test(an_authority_comes_back_from_its_texts),
        cmocka_unit_test(a_strict_client_accepts_the_chain_in_any_year),
        cmocka_unit_test(every_truncation_and_every_extra_byte_is_refused),
        cmocka_unit_test(a_changed_byte_never_makes_an_identity_of_another_shape),
        cmocka_unit_test(an_authority_is_not_a_peer_and_a_stranger_is_told_so),
        cmocka_unit_test(an_identity_of_another_computer_or_of_the_past_is_denied),
        cmocka_unit_test(names_are_bounded_and_plain),
        cmocka_unit_test(the_longest_names_fit),
        cmocka_unit_test(the_extension_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
