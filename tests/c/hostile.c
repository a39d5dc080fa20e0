/*
 * Calls every function of every dispatch table of the provider with arguments that libcrypto would not pass: null pointers, lengths
 * of nothing and of everything, parameters of the wrong type and size, contexts that were not initialised. Each must come
 * back, and write nowhere that it was not told to. Afterwards each key must still sign, and its signature verify.
 *
 *   hostile PROVIDER MODULE PIN PAIRS URI...      PAIRS: 1 to have two wrong arguments at a time as well
 *
 * The core is this program's: the provider is loaded as libcrypto loads it, by OSSL_provider_init.
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/params.h>

#define COUNT(list) (sizeof(list) / sizeof(*(list)))
#define ROOM 65536
#define GUARD 0xa5

static const char *module, *pin, *current = "start";
static unsigned long calls, errors;
static void *provider;
static const OSSL_DISPATCH *own;

static void fail(const char *what)
{
    fprintf(stderr, "hostile: %s: %s\n", current, what);
    abort();
}

/* The core. */

static int core_get_params(const OSSL_CORE_HANDLE *handle, OSSL_PARAM params[])
{
    (void)handle;
    for (; params->key != NULL; params++) {
        const char *value = NULL;
        if (strcmp(params->key, "pkcs11-module-path") == 0)
            value = module;
        if (strcmp(params->key, "pkcs11-module-token-pin") == 0)
            value = pin;
        /* Everything that is offered if it is asked for. */
        if (strcmp(params->key, "strongroom-operations") == 0)
            value = "digest mac cipher kdf";
        if (value != NULL && params->data_type == OSSL_PARAM_UTF8_PTR)
            *(const char **)params->data = value;
    }
    return 1;
}

static void core_new_error(const OSSL_CORE_HANDLE *handle)
{
    (void)handle;
    errors++;
}

static void core_set_error_debug(const OSSL_CORE_HANDLE *handle, const char *file, int line, const char *function)
{
    (void)handle, (void)file, (void)line, (void)function;
}

static void core_vset_error(const OSSL_CORE_HANDLE *handle, uint32_t reason, const char *format, va_list arguments)
{
    char text[4096];
    (void)handle, (void)reason;
    if (format == NULL || vsnprintf(text, sizeof(text), format, arguments) < 0)
        fail("an error without a text");
    if (strstr(text, pin) != NULL)
        fail("an error with the PIN");
}

struct memory {
    const unsigned char *data;
    size_t length, at;
};

static int bio_read_ex(OSSL_CORE_BIO *bio, void *data, size_t length, size_t *got)
{
    struct memory *memory = (struct memory *)bio;
    size_t left = memory->length - memory->at;
    if (left == 0)
        return 0;
    *got = length < left ? length : left;
    memcpy(data, memory->data + memory->at, *got);
    memory->at += *got;
    return 1;
}

static int bio_gets(OSSL_CORE_BIO *bio, char *line, int size)
{
    struct memory *memory = (struct memory *)bio;
    int length = 0;
    while (length < size - 1 && memory->at < memory->length) {
        line[length] = (char)memory->data[memory->at++];
        if (line[length++] == '\n')
            break;
    }
    line[length] = 0;
    return length;
}

static int bio_write_ex(OSSL_CORE_BIO *bio, const void *data, size_t length, size_t *written)
{
    volatile unsigned char sum = 0;
    (void)bio;
    for (size_t at = 0; at < length; at++)
        sum ^= ((const unsigned char *)data)[at];
    *written = length;
    return 1;
}

static int bio_puts(OSSL_CORE_BIO *bio, const char *text)
{
    (void)bio;
    return (int)strlen(text);
}

static int bio_one(OSSL_CORE_BIO *bio)
{
    (void)bio;
    return 1;
}

#define FUNCTION(function) ((void (*)(void))(function))

static const OSSL_DISPATCH core[] = {
    {OSSL_FUNC_CORE_GET_PARAMS, FUNCTION(core_get_params)},
    {OSSL_FUNC_CORE_NEW_ERROR, FUNCTION(core_new_error)},
    {OSSL_FUNC_CORE_SET_ERROR_DEBUG, FUNCTION(core_set_error_debug)},
    {OSSL_FUNC_CORE_VSET_ERROR, FUNCTION(core_vset_error)},
    {OSSL_FUNC_BIO_READ_EX, FUNCTION(bio_read_ex)},
    {OSSL_FUNC_BIO_WRITE_EX, FUNCTION(bio_write_ex)},
    {OSSL_FUNC_BIO_GETS, FUNCTION(bio_gets)},
    {OSSL_FUNC_BIO_PUTS, FUNCTION(bio_puts)},
    {OSSL_FUNC_BIO_UP_REF, FUNCTION(bio_one)},
    {OSSL_FUNC_BIO_FREE, FUNCTION(bio_one)},
    {0, NULL},
};

/* What the functions take, a letter for each argument; the first letter is what they return.
 *   v the provider's context     c the operation's context    k a key      q a name      u a URI
 *   p parameters to read         P parameters to answer       s a selection or another number
 *   o a buffer to write          l where its length goes      z its size
 *   i a buffer to read           n its length                 y a number to answer
 *   b a callback  a its argument w a passphrase callback      B a BIO      r, R a reference and its size
 * They return: n a number, f nothing (they free), x an object to be freed by its table, t a list or text.
 */
struct shape {
    int operation, id;
    const char *arguments;
};

static const struct shape shapes[] = {
    {0, OSSL_FUNC_PROVIDER_TEARDOWN, "fv"},
    {0, OSSL_FUNC_PROVIDER_GETTABLE_PARAMS, "tv"},
    {0, OSSL_FUNC_PROVIDER_GET_PARAMS, "nvP"},
    {0, OSSL_FUNC_PROVIDER_QUERY_OPERATION, "tvsy"},
    {0, OSSL_FUNC_PROVIDER_UNQUERY_OPERATION, "nvsq"},
    {0, OSSL_FUNC_PROVIDER_GET_REASON_STRINGS, "tv"},
    {0, OSSL_FUNC_PROVIDER_GET_CAPABILITIES, "nvqba"},
    {0, OSSL_FUNC_PROVIDER_SELF_TEST, "nv"},
    {0, 1032, "nvsons"},

    {OSSL_OP_DIGEST, OSSL_FUNC_DIGEST_NEWCTX, "xv"},
    {OSSL_OP_DIGEST, OSSL_FUNC_DIGEST_INIT, "ncp"},
    {OSSL_OP_DIGEST, OSSL_FUNC_DIGEST_UPDATE, "ncin"},
    {OSSL_OP_DIGEST, OSSL_FUNC_DIGEST_FINAL, "ncolz"},
    {OSSL_OP_DIGEST, OSSL_FUNC_DIGEST_DIGEST, "nvinolz"},
    {OSSL_OP_DIGEST, OSSL_FUNC_DIGEST_FREECTX, "fc"},
    {OSSL_OP_DIGEST, OSSL_FUNC_DIGEST_DUPCTX, "xc"},
    {OSSL_OP_DIGEST, OSSL_FUNC_DIGEST_GET_PARAMS, "nP"},
    {OSSL_OP_DIGEST, OSSL_FUNC_DIGEST_SET_CTX_PARAMS, "ncp"},
    {OSSL_OP_DIGEST, OSSL_FUNC_DIGEST_GET_CTX_PARAMS, "ncP"},
    {OSSL_OP_DIGEST, OSSL_FUNC_DIGEST_GETTABLE_PARAMS, "tv"},
    {OSSL_OP_DIGEST, OSSL_FUNC_DIGEST_SETTABLE_CTX_PARAMS, "tcv"},
    {OSSL_OP_DIGEST, OSSL_FUNC_DIGEST_GETTABLE_CTX_PARAMS, "tcv"},

    {OSSL_OP_MAC, OSSL_FUNC_MAC_NEWCTX, "xv"},
    {OSSL_OP_MAC, OSSL_FUNC_MAC_DUPCTX, "xc"},
    {OSSL_OP_MAC, OSSL_FUNC_MAC_FREECTX, "fc"},
    {OSSL_OP_MAC, OSSL_FUNC_MAC_INIT, "ncinp"},
    {OSSL_OP_MAC, OSSL_FUNC_MAC_UPDATE, "ncin"},
    {OSSL_OP_MAC, OSSL_FUNC_MAC_FINAL, "ncolz"},
    {OSSL_OP_MAC, OSSL_FUNC_MAC_GETTABLE_CTX_PARAMS, "tcv"},
    {OSSL_OP_MAC, OSSL_FUNC_MAC_SETTABLE_CTX_PARAMS, "tcv"},
    {OSSL_OP_MAC, OSSL_FUNC_MAC_GET_CTX_PARAMS, "ncP"},
    {OSSL_OP_MAC, OSSL_FUNC_MAC_SET_CTX_PARAMS, "ncp"},

    {OSSL_OP_CIPHER, OSSL_FUNC_CIPHER_NEWCTX, "xv"},
    {OSSL_OP_CIPHER, OSSL_FUNC_CIPHER_DUPCTX, "xc"},
    {OSSL_OP_CIPHER, OSSL_FUNC_CIPHER_FREECTX, "fc"},
    {OSSL_OP_CIPHER, OSSL_FUNC_CIPHER_ENCRYPT_INIT, "ncininp"},
    {OSSL_OP_CIPHER, OSSL_FUNC_CIPHER_DECRYPT_INIT, "ncininp"},
    {OSSL_OP_CIPHER, OSSL_FUNC_CIPHER_UPDATE, "ncolzin"},
    {OSSL_OP_CIPHER, OSSL_FUNC_CIPHER_FINAL, "ncolz"},
    {OSSL_OP_CIPHER, OSSL_FUNC_CIPHER_CIPHER, "ncolzin"},
    {OSSL_OP_CIPHER, OSSL_FUNC_CIPHER_GETTABLE_PARAMS, "tv"},
    {OSSL_OP_CIPHER, OSSL_FUNC_CIPHER_GET_PARAMS, "nP"},
    {OSSL_OP_CIPHER, OSSL_FUNC_CIPHER_GETTABLE_CTX_PARAMS, "tcv"},
    {OSSL_OP_CIPHER, OSSL_FUNC_CIPHER_SETTABLE_CTX_PARAMS, "tcv"},
    {OSSL_OP_CIPHER, OSSL_FUNC_CIPHER_GET_CTX_PARAMS, "ncP"},
    {OSSL_OP_CIPHER, OSSL_FUNC_CIPHER_SET_CTX_PARAMS, "ncp"},

    /* With secret keys, from 3.5 and 4.0 on: there is none here. */
    {OSSL_OP_CIPHER, 19, "ncainp"},
    {OSSL_OP_CIPHER, 20, "ncainp"},
    {OSSL_OP_MAC, 13, "ncap"},
    {OSSL_OP_KDF, 12, "ncaq"},

    {OSSL_OP_KDF, OSSL_FUNC_KDF_NEWCTX, "xv"},
    {OSSL_OP_KDF, OSSL_FUNC_KDF_DUPCTX, "xc"},
    {OSSL_OP_KDF, OSSL_FUNC_KDF_FREECTX, "fc"},
    {OSSL_OP_KDF, OSSL_FUNC_KDF_RESET, "nc"},
    {OSSL_OP_KDF, OSSL_FUNC_KDF_DERIVE, "nconp"},
    {OSSL_OP_KDF, OSSL_FUNC_KDF_GETTABLE_PARAMS, "tv"},
    {OSSL_OP_KDF, OSSL_FUNC_KDF_GETTABLE_CTX_PARAMS, "tcv"},
    {OSSL_OP_KDF, OSSL_FUNC_KDF_SETTABLE_CTX_PARAMS, "tcv"},
    {OSSL_OP_KDF, OSSL_FUNC_KDF_GET_PARAMS, "nP"},
    {OSSL_OP_KDF, OSSL_FUNC_KDF_GET_CTX_PARAMS, "ncP"},
    {OSSL_OP_KDF, OSSL_FUNC_KDF_SET_CTX_PARAMS, "ncp"},

    {OSSL_OP_RAND, OSSL_FUNC_RAND_NEWCTX, "xvaa"},
    {OSSL_OP_RAND, OSSL_FUNC_RAND_FREECTX, "fc"},
    {OSSL_OP_RAND, OSSL_FUNC_RAND_INSTANTIATE, "nczsinp"},
    {OSSL_OP_RAND, OSSL_FUNC_RAND_UNINSTANTIATE, "nc"},
    {OSSL_OP_RAND, OSSL_FUNC_RAND_GENERATE, "nconssin"},
    {OSSL_OP_RAND, OSSL_FUNC_RAND_RESEED, "ncsinin"},
    {OSSL_OP_RAND, OSSL_FUNC_RAND_NONCE, "ncosss"},
    {OSSL_OP_RAND, OSSL_FUNC_RAND_ENABLE_LOCKING, "nc"},
    {OSSL_OP_RAND, OSSL_FUNC_RAND_LOCK, "nc"},
    {OSSL_OP_RAND, OSSL_FUNC_RAND_UNLOCK, "nc"},
    {OSSL_OP_RAND, OSSL_FUNC_RAND_GETTABLE_PARAMS, "tv"},
    {OSSL_OP_RAND, OSSL_FUNC_RAND_GETTABLE_CTX_PARAMS, "tcv"},
    {OSSL_OP_RAND, OSSL_FUNC_RAND_SETTABLE_CTX_PARAMS, "tcv"},
    {OSSL_OP_RAND, OSSL_FUNC_RAND_GET_PARAMS, "nP"},
    {OSSL_OP_RAND, OSSL_FUNC_RAND_GET_CTX_PARAMS, "ncP"},
    {OSSL_OP_RAND, OSSL_FUNC_RAND_SET_CTX_PARAMS, "ncp"},
    {OSSL_OP_RAND, OSSL_FUNC_RAND_VERIFY_ZEROIZATION, "nc"},

    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_NEW, "xv"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_GEN_INIT, "gvsp"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_GEN_SET_TEMPLATE, "nck"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS, "ncp"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS, "tcv"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_GEN, "Gcba"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_GEN_CLEANUP, "fc"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_LOAD, "xrR"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_FREE, "fk"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_GET_PARAMS, "nkP"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, "tv"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_SET_PARAMS, "nkp"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS, "tv"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, "ts"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_HAS, "nks"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_VALIDATE, "nkss"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_MATCH, "nkks"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_IMPORT, "nksp"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_IMPORT_TYPES, "ts"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_EXPORT, "nksba"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_EXPORT_TYPES, "ts"},
    {OSSL_OP_KEYMGMT, OSSL_FUNC_KEYMGMT_DUP, "xks"},
    /* from 3.2 and 3.4 on */
    {OSSL_OP_KEYMGMT, 45, "tvs"},
    {OSSL_OP_KEYMGMT, 46, "tvs"},
    {OSSL_OP_KEYMGMT, 15, "ncP"},
    {OSSL_OP_KEYMGMT, 16, "tcv"},

    /* Key management for secret keys, from 3.5 on: free, import, export, generate, get_key_id, and what may be set. Generation is tested
       elsewhere. */
    {15, 1, "fa"},
    {15, 2, "xvsp"},
    {15, 3, "nasba"},
    {15, 4, "Gvp"},
    {15, 5, "ta"},
    {15, 6, "tv"},
    {15, 7, "tv"},

    {OSSL_OP_KEYEXCH, OSSL_FUNC_KEYEXCH_NEWCTX, "xv"},
    {OSSL_OP_KEYEXCH, OSSL_FUNC_KEYEXCH_INIT, "nckp"},
    {OSSL_OP_KEYEXCH, OSSL_FUNC_KEYEXCH_DERIVE, "ncolz"},
    {OSSL_OP_KEYEXCH, OSSL_FUNC_KEYEXCH_SET_PEER, "nck"},
    {OSSL_OP_KEYEXCH, OSSL_FUNC_KEYEXCH_FREECTX, "fc"},
    {OSSL_OP_KEYEXCH, OSSL_FUNC_KEYEXCH_DUPCTX, "xc"},
    {OSSL_OP_KEYEXCH, OSSL_FUNC_KEYEXCH_SET_CTX_PARAMS, "ncp"},
    {OSSL_OP_KEYEXCH, OSSL_FUNC_KEYEXCH_SETTABLE_CTX_PARAMS, "tcv"},
    {OSSL_OP_KEYEXCH, OSSL_FUNC_KEYEXCH_GET_CTX_PARAMS, "ncP"},
    {OSSL_OP_KEYEXCH, OSSL_FUNC_KEYEXCH_GETTABLE_CTX_PARAMS, "tcv"},

    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_NEWCTX, "xvq"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_SIGN_INIT, "nckp"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_SIGN, "ncolzin"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_VERIFY_INIT, "nckp"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_VERIFY, "ncinin"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_VERIFY_RECOVER_INIT, "nckp"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_VERIFY_RECOVER, "ncolzin"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, "ncqkp"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE, "ncin"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL, "ncolz"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_DIGEST_SIGN, "ncolzin"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT, "ncqkp"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE, "ncin"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL, "ncin"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_DIGEST_VERIFY, "ncinin"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_FREECTX, "fc"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_DUPCTX, "xc"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, "ncP"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, "tcv"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, "ncp"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, "tcv"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_GET_CTX_MD_PARAMS, "ncP"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_GETTABLE_CTX_MD_PARAMS, "tc"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_SET_CTX_MD_PARAMS, "ncp"},
    {OSSL_OP_SIGNATURE, OSSL_FUNC_SIGNATURE_SETTABLE_CTX_MD_PARAMS, "tc"},
    /* from 3.4 on: query_key_types, {sign,verify}_message_{init,update,final} and set_signature between */
    {OSSL_OP_SIGNATURE, 26, "t"},
    {OSSL_OP_SIGNATURE, 27, "nckp"},
    {OSSL_OP_SIGNATURE, 28, "ncin"},
    {OSSL_OP_SIGNATURE, 29, "ncolz"},
    {OSSL_OP_SIGNATURE, 30, "nckp"},
    {OSSL_OP_SIGNATURE, 31, "ncin"},
    {OSSL_OP_SIGNATURE, 32, "nc"},

    {OSSL_OP_ASYM_CIPHER, OSSL_FUNC_ASYM_CIPHER_NEWCTX, "xv"},
    {OSSL_OP_ASYM_CIPHER, OSSL_FUNC_ASYM_CIPHER_ENCRYPT_INIT, "nckp"},
    {OSSL_OP_ASYM_CIPHER, OSSL_FUNC_ASYM_CIPHER_ENCRYPT, "ncolzin"},
    {OSSL_OP_ASYM_CIPHER, OSSL_FUNC_ASYM_CIPHER_DECRYPT_INIT, "nckp"},
    {OSSL_OP_ASYM_CIPHER, OSSL_FUNC_ASYM_CIPHER_DECRYPT, "ncolzin"},
    {OSSL_OP_ASYM_CIPHER, OSSL_FUNC_ASYM_CIPHER_FREECTX, "fc"},
    {OSSL_OP_ASYM_CIPHER, OSSL_FUNC_ASYM_CIPHER_DUPCTX, "xc"},
    {OSSL_OP_ASYM_CIPHER, OSSL_FUNC_ASYM_CIPHER_GET_CTX_PARAMS, "ncP"},
    {OSSL_OP_ASYM_CIPHER, OSSL_FUNC_ASYM_CIPHER_GETTABLE_CTX_PARAMS, "tcv"},
    {OSSL_OP_ASYM_CIPHER, OSSL_FUNC_ASYM_CIPHER_SET_CTX_PARAMS, "ncp"},
    {OSSL_OP_ASYM_CIPHER, OSSL_FUNC_ASYM_CIPHER_SETTABLE_CTX_PARAMS, "tcv"},

    {OSSL_OP_KEM, OSSL_FUNC_KEM_NEWCTX, "xv"},
    {OSSL_OP_KEM, OSSL_FUNC_KEM_ENCAPSULATE_INIT, "nckp"},
    {OSSL_OP_KEM, OSSL_FUNC_KEM_ENCAPSULATE, "ncolol"},
    {OSSL_OP_KEM, OSSL_FUNC_KEM_DECAPSULATE_INIT, "nckp"},
    {OSSL_OP_KEM, OSSL_FUNC_KEM_DECAPSULATE, "ncolin"},
    {OSSL_OP_KEM, OSSL_FUNC_KEM_FREECTX, "fc"},
    {OSSL_OP_KEM, OSSL_FUNC_KEM_DUPCTX, "xc"},
    {OSSL_OP_KEM, OSSL_FUNC_KEM_GET_CTX_PARAMS, "ncP"},
    {OSSL_OP_KEM, OSSL_FUNC_KEM_GETTABLE_CTX_PARAMS, "tcv"},
    {OSSL_OP_KEM, OSSL_FUNC_KEM_SET_CTX_PARAMS, "ncp"},
    {OSSL_OP_KEM, OSSL_FUNC_KEM_SETTABLE_CTX_PARAMS, "tcv"},

    {OSSL_OP_ENCODER, OSSL_FUNC_ENCODER_NEWCTX, "xv"},
    {OSSL_OP_ENCODER, OSSL_FUNC_ENCODER_FREECTX, "fc"},
    {OSSL_OP_ENCODER, OSSL_FUNC_ENCODER_GET_PARAMS, "nP"},
    {OSSL_OP_ENCODER, OSSL_FUNC_ENCODER_GETTABLE_PARAMS, "tv"},
    {OSSL_OP_ENCODER, OSSL_FUNC_ENCODER_SET_CTX_PARAMS, "ncp"},
    {OSSL_OP_ENCODER, OSSL_FUNC_ENCODER_SETTABLE_CTX_PARAMS, "tv"},
    {OSSL_OP_ENCODER, OSSL_FUNC_ENCODER_DOES_SELECTION, "nvs"},
    {OSSL_OP_ENCODER, OSSL_FUNC_ENCODER_ENCODE, "ncBkpswa"},
    {OSSL_OP_ENCODER, OSSL_FUNC_ENCODER_IMPORT_OBJECT, "Icsp"},
    {OSSL_OP_ENCODER, OSSL_FUNC_ENCODER_FREE_OBJECT, "fk"},

    {OSSL_OP_DECODER, OSSL_FUNC_DECODER_NEWCTX, "xv"},
    {OSSL_OP_DECODER, OSSL_FUNC_DECODER_FREECTX, "fc"},
    {OSSL_OP_DECODER, OSSL_FUNC_DECODER_GET_PARAMS, "nP"},
    {OSSL_OP_DECODER, OSSL_FUNC_DECODER_GETTABLE_PARAMS, "tv"},
    {OSSL_OP_DECODER, OSSL_FUNC_DECODER_SET_CTX_PARAMS, "ncp"},
    {OSSL_OP_DECODER, OSSL_FUNC_DECODER_SETTABLE_CTX_PARAMS, "tv"},
    {OSSL_OP_DECODER, OSSL_FUNC_DECODER_DOES_SELECTION, "nvs"},
    {OSSL_OP_DECODER, OSSL_FUNC_DECODER_DECODE, "ncBsbawa"},
    {OSSL_OP_DECODER, OSSL_FUNC_DECODER_EXPORT_OBJECT, "ncrRba"},

    {OSSL_OP_STORE, OSSL_FUNC_STORE_OPEN, "xvu"},
    {OSSL_OP_STORE, OSSL_FUNC_STORE_ATTACH, "xvB"},
    {OSSL_OP_STORE, OSSL_FUNC_STORE_SETTABLE_CTX_PARAMS, "tv"},
    {OSSL_OP_STORE, OSSL_FUNC_STORE_SET_CTX_PARAMS, "ncp"},
    {OSSL_OP_STORE, OSSL_FUNC_STORE_LOAD, "ncbawa"},
    {OSSL_OP_STORE, OSSL_FUNC_STORE_EOF, "nc"},
    {OSSL_OP_STORE, OSSL_FUNC_STORE_CLOSE, "fc"},
    {OSSL_OP_STORE, OSSL_FUNC_STORE_EXPORT_OBJECT, "nvrRba"},
    /* from 3.2 on: delete, open_ex */
    {OSSL_OP_STORE, 9, "nvupwa"},
    {OSSL_OP_STORE, 10, "xvupwa"},
};

static const char *shape_of(int operation, int id)
{
    for (size_t at = 0; at < COUNT(shapes); at++)
        if (shapes[at].operation == operation && shapes[at].id == id)
            return shapes[at].arguments;
    fprintf(stderr, "hostile: function %d of operation %d is not known: add it to the shapes\n", id, operation);
    exit(1);
}

typedef uintptr_t word;
typedef word (*call)(word, word, word, word, word, word, word, word);

static word invoke(const OSSL_DISPATCH *entry, const word a[8])
{
    calls++;
    return ((call)entry->function)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
}

static const OSSL_DISPATCH *find(const OSSL_DISPATCH *table, int id)
{
    for (; table != NULL && table->function_id != 0; table++)
        if (table->function_id == id)
            return table;
    return NULL;
}

/* Arguments. */

static unsigned char output[ROOM], input[ROOM];
static size_t output_length;
static int number;
static struct memory memory;
static void *reference;
static const char *uri;

static int callback(const OSSL_PARAM params[], void *argument)
{
    (void)argument;
    /* Everything that it is told can be read. */
    volatile unsigned char sum = 0;
    for (; params != NULL && params->key != NULL; params++)
        for (size_t at = 0; params->data != NULL && at < params->data_size; at++)
            sum ^= ((const unsigned char *)params->data)[at];
    return 1;
}

static int refusing_callback(const OSSL_PARAM params[], void *argument)
{
    (void)params, (void)argument;
    return 0;
}

static int passphrase(char *pass, size_t size, size_t *length, const OSSL_PARAM params[], void *argument)
{
    (void)params, (void)argument;
    size_t wanted = strlen(pin);
    if (wanted > size)
        return 0;
    memcpy(pass, pin, wanted);
    *length = wanted;
    return 1;
}

static int lying_passphrase(char *pass, size_t size, size_t *length, const OSSL_PARAM params[], void *argument)
{
    (void)params, (void)argument;
    memset(pass, 'x', size);
    *length = SIZE_MAX;
    return 1;
}

/* Every parameter that a function might look for, each time of another type and size. */
static const char *const keys[] = {
    "digest", "mgf1-digest", "pad-mode", "saltlen", "algorithm-id", "instance", "context-string", "nonce-type", "bits",
    "security-bits", "max-size", "default-digest", "mandatory-digest", "group", "pub", "n", "e", "encoded-pub-key", "expect", "subject",
    "properties", "name", "version", "buildinfo", "status", "label", "id", "pkcs11_uri", "key_usage", "digest-props", "oaep-label",
    "tls-client-version", "tls-negotiated-version", "implicit-rejection", "cofactor", "kdf-type", "kdf-digest", "kdf-outlen", "kdf-ukm",
    "pad", "message-encoding", "deterministic", "mu", "test-entropy", "state", "strength", "max_request", "priv", "save-parameters",
    "type", "data-type", "reference", "data", "cipher", "input-type", "verify-message", "sign-check", "distid", "fips-indicator",
    "key", "info", "salt", "mode", "mac", "size", "blocksize", "xof", "algid-absent", "prefix", "label", "secret", "seed", "keylen",
    "ivlen", "iv", "updated-iv", "padding", "num", "tag", "taglen", "cts_mode", "cts", "aead", "custom-iv", "tlsaad", "use-bits",
    "signature", "raw-bytes", "key-length",
};
#define VARIANTS 16
static OSSL_PARAM lists[VARIANTS][COUNT(keys) + 1];
static unsigned char values[ROOM];
static const void *address = values;

static void make_lists(void)
{
    memset(values, 0xff, sizeof(values));
    memcpy(values, "pss\0", 4);
    for (size_t variant = 0; variant < VARIANTS; variant++)
        for (size_t at = 0; at < COUNT(keys); at++) {
            OSSL_PARAM *param = &lists[variant][at];
            static const unsigned int types[] = {OSSL_PARAM_INTEGER, OSSL_PARAM_UNSIGNED_INTEGER, OSSL_PARAM_REAL,
                OSSL_PARAM_UTF8_STRING, OSSL_PARAM_OCTET_STRING, OSSL_PARAM_UTF8_PTR, OSSL_PARAM_OCTET_PTR, 77};
            static const size_t sizes[] = {0, 1, 3, 4, 8, 17, 200, 5000};
            param->key = keys[at];
            param->data_type = types[(variant + at) % COUNT(types)];
            param->data_size = sizes[(variant * 3 + at) % COUNT(sizes)];
            param->data = variant % 4 == 3 ? NULL : values + variant % 3;
            if (param->data_type == OSSL_PARAM_UTF8_PTR || param->data_type == OSSL_PARAM_OCTET_PTR)
                param->data = variant % 4 == 3 ? NULL : (void *)&address;
            param->return_size = OSSL_PARAM_UNMODIFIED;
        }
}

/* The keys' own parameters that a function answers into buffers of their own. */
static unsigned char answers[VARIANTS][COUNT(keys)][64];
static OSSL_PARAM to_answer[VARIANTS][COUNT(keys) + 1];

static void make_answers(void)
{
    for (size_t variant = 0; variant < VARIANTS; variant++)
        for (size_t at = 0; at < COUNT(keys); at++) {
            OSSL_PARAM *param = &to_answer[variant][at];
            *param = lists[variant][at];
            if (param->data_size > 56)
                param->data_size = 56;
            memset(answers[variant][at], GUARD, sizeof(answers[variant][at]));
            /* A pointer that is to be answered is written whole. */
            param->data = param->data == NULL ? NULL : answers[variant][at];
        }
}

static void check_answers(void)
{
    for (size_t variant = 0; variant < VARIANTS; variant++)
        for (size_t at = 0; at < COUNT(keys); at++) {
            const OSSL_PARAM *param = &to_answer[variant][at];
            int is_pointer = param->data_type == OSSL_PARAM_UTF8_PTR || param->data_type == OSSL_PARAM_OCTET_PTR;
            for (size_t byte = is_pointer ? 8 : param->data_size; byte < 64; byte++)
                if (answers[variant][at][byte] != GUARD) {
                    fprintf(stderr, "parameter %s type %u size %zu\n", param->key, param->data_type, param->data_size);
                    fail("written past a parameter's size");
                }
        }
}

static const OSSL_PARAM none[] = {{NULL, 0, NULL, 0, 0}};

struct setting {
    void *context, *key;
};

/* How many values an argument can have; the first is the good one. */
static size_t variants(char kind)
{
    switch (kind) {
    case 'p': return VARIANTS + 2;
    case 'P': return VARIANTS + 2;
    case 's': return 8;
    case 'z': return 6;
    case 'n': return 5;
    case 'q': return 6;
    case 'u': return 6;
    case 'b': return 3;
    case 'w': return 3;
    case 'B': return 4;
    case 'R': return 4;
    case 'r': return 2;
    case 'a': return 1;
    default: return 2;
    }
}

static word value(char kind, size_t variant, const struct setting *setting)
{
    static char long_text[8192];
    static const unsigned char pem[] = "-----BEGIN PKCS#11 PROVIDER URI-----\n"
        "MIIBGhoZUEtDUyMxMSBQcm92aWRlciBVUkkgdjEuMAyC\n-----END PKCS#11 PROVIDER URI-----\n";
    switch (kind) {
    case 'v': return variant == 0 ? (word)provider : 0;
    case 'c': return variant == 0 ? (word)setting->context : 0;
    case 'k': return variant == 0 ? (word)setting->key : 0;
    case 'p':
        if (variant < 2)
            return variant == 0 ? 0 : (word)none;
        return (word)lists[variant - 2];
    case 'P':
        if (variant < 2)
            return variant == 0 ? (word)none : 0;
        return (word)to_answer[variant - 2];
    case 's': {
        static const int selections[] = {0x02, 0, 0x01, 0x04, 0x87, -1, INT32_MIN, 12};
        return (word)(intptr_t)selections[variant];
    }
    case 'q': {
        const char *const texts[] = {"SHA256", NULL, "", "NO-SUCH-DIGEST", long_text, "\xff\xfe%s%n"};
        memset(long_text, 'A', sizeof(long_text) - 1);
        return (word)texts[variant];
    }
    case 'u': {
        const char *const texts[] = {uri, NULL, "", "pkcs11:", "pkcs11:\xff", "file:/etc/passwd"};
        return (word)texts[variant];
    }
    case 'o': return variant == 0 ? (word)output : 0;
    case 'l': return variant == 0 ? (word)&output_length : 0;
    case 'z': {
        static const size_t sizes[] = {2048, 0, 1, 63, 256, SIZE_MAX};
        return sizes[variant];
    }
    case 'i': return variant == 0 ? (word)input : 0;
    case 'n': {
        static const size_t sizes[] = {32, 0, 1, 4096, SIZE_MAX};
        return sizes[variant];
    }
    case 'y': return variant == 0 ? (word)&number : 0;
    case 'b': return variant == 0 ? (word)callback : variant == 1 ? 0 : (word)refusing_callback;
    case 'w': return variant == 0 ? (word)passphrase : variant == 1 ? 0 : (word)lying_passphrase;
    case 'a': return 0;
    case 'B':
        memory.at = 0;
        memory.data = variant == 0 ? pem : input;
        memory.length = variant == 0 ? sizeof(pem) - 1 : variant == 1 ? 0 : variant == 2 ? 100 : ROOM;
        return (word)&memory;
    case 'r':
        reference = NULL;
        return variant == 0 ? (word)&reference : 0;
    case 'R': {
        static const size_t sizes[] = {sizeof(void *), 0, 1, SIZE_MAX};
        return sizes[variant];
    }
    default: fail("a shape of an unknown letter");
    }
    return 0;
}

/* Functions that make and free what the others work on. */
static int maker(int operation)
{
    return operation == OSSL_OP_KEYMGMT ? OSSL_FUNC_KEYMGMT_GEN_INIT : 1;
}

static int freer(int operation)
{
    switch (operation) {
    case OSSL_OP_KEYMGMT: return OSSL_FUNC_KEYMGMT_GEN_CLEANUP;
    case OSSL_OP_DIGEST: return OSSL_FUNC_DIGEST_FREECTX;
    case OSSL_OP_MAC: return OSSL_FUNC_MAC_FREECTX;
    case OSSL_OP_CIPHER: return OSSL_FUNC_CIPHER_FREECTX;
    case OSSL_OP_KDF: return OSSL_FUNC_KDF_FREECTX;
    case OSSL_OP_KEYEXCH: return OSSL_FUNC_KEYEXCH_FREECTX;
    case OSSL_OP_SIGNATURE: return OSSL_FUNC_SIGNATURE_FREECTX;
    case OSSL_OP_KEM: return OSSL_FUNC_KEM_FREECTX;
    case OSSL_OP_ASYM_CIPHER: return OSSL_FUNC_ASYM_CIPHER_FREECTX;
    case OSSL_OP_STORE: return OSSL_FUNC_STORE_CLOSE;
    case 15: return 1;
    default: return 2;
    }
}

static void give_back(const OSSL_DISPATCH *table, int id, word object)
{
    const word arguments[8] = {object};
    const OSSL_DISPATCH *entry = find(table, id);
    if (object != 0 && entry != NULL)
        invoke(entry, arguments);
}

/* A context, initialised by `init` unless that is NULL. */
static void *make(int operation, const OSSL_DISPATCH *table, const OSSL_DISPATCH *init, void *key)
{
    const OSSL_DISPATCH *entry = find(table, maker(operation));
    if (entry == NULL)
        return NULL;
    struct setting setting = {NULL, key};
    word arguments[8] = {0};
    const char *shape = shape_of(operation, entry->function_id);
    for (size_t at = 1; shape[at] != 0; at++)
        arguments[at - 1] = value(shape[at], 0, &setting);
    if (operation == OSSL_OP_KEYMGMT)
        arguments[1] = 0x87;
    void *context = (void *)invoke(entry, arguments);
    if (context != NULL && init != NULL) {
        setting.context = context;
        shape = shape_of(operation, init->function_id);
        memset(arguments, 0, sizeof(arguments));
        for (size_t at = 1; shape[at] != 0; at++)
            arguments[at - 1] = value(shape[at], 0, &setting);
        invoke(init, arguments);
    }
    return context;
}

/* One call with the arguments of these variants. */
static void one(int operation, const OSSL_DISPATCH *table, const OSSL_DISPATCH *entry, const OSSL_DISPATCH *init, void *key,
    const size_t chosen[8])
{
    const char *shape = shape_of(operation, entry->function_id);
    struct setting setting = {NULL, key};
    word arguments[8] = {0};
    size_t size = ROOM;
    if (strchr(shape, 'c') != NULL)
        setting.context = make(operation, table, init, key);
    make_lists();
    make_answers();
    memset(output, GUARD, sizeof(output));
    output_length = 77;
    for (size_t at = 1; shape[at] != 0; at++) {
        arguments[at - 1] = value(shape[at], chosen[at - 1], &setting);
        if (shape[at] == 'z' || (shape[at] == 'n' && shape[at - 1] == 'o'))
            size = arguments[at - 1];
    }
    /* Nobody could write so much; what is claimed must not be believed further than a result is long. */
    if (strstr(shape, "on") != NULL && size > 4096)
        goto done;
    word result = invoke(entry, arguments);
    if (size > ROOM - 1)
        size = 8192;
    for (size_t at = size; at < ROOM; at++)
        if (output[at] != GUARD)
            fail("written past the output's size");
    check_answers();
    if (shape[0] == 'x' && result != 0 && operation == OSSL_OP_KEYMGMT)
        give_back(table, OSSL_FUNC_KEYMGMT_FREE, result);
    else if (shape[0] == 'x' || shape[0] == 'g')
        give_back(table, freer(operation), result);
    else if (shape[0] == 'I')
        give_back(table, OSSL_FUNC_ENCODER_FREE_OBJECT, result);
done:
    give_back(table, freer(operation), (word)setting.context);
}

/* All calls of one function, on contexts initialised in one way. */
static void attack(int operation, const OSSL_DISPATCH *table, const OSSL_DISPATCH *entry, const OSSL_DISPATCH *init, void *key, int pairs)
{
    const char *shape = shape_of(operation, entry->function_id);
    size_t count = strlen(shape) - 1, chosen[8] = {0};
    if (shape[0] == 'f' || shape[0] == 'G') {
        /* With nothing to free; generation makes keys in the token, and is tested elsewhere. */
        const word nothing[8] = {0};
        invoke(entry, nothing);
        return;
    }
    one(operation, table, entry, init, key, chosen);
    for (size_t first = 0; first < count; first++)
        for (size_t bad = 1; bad < variants(shape[first + 1]); bad++) {
            chosen[first] = bad;
            one(operation, table, entry, init, key, chosen);
            for (size_t second = first + 1; pairs && second < count; second++)
                for (size_t worse = 1; worse < variants(shape[second + 1]); worse++) {
                    chosen[second] = worse;
                    one(operation, table, entry, init, key, chosen);
                    chosen[second] = 0;
                }
            chosen[first] = 0;
        }
}

/* Keys, as libcrypto gets them. */

static const OSSL_ALGORITHM *query(int operation)
{

    const word arguments[8] = {(word)provider, (word)operation, (word)&number};
    return (const OSSL_ALGORITHM *)invoke(find(own, OSSL_FUNC_PROVIDER_QUERY_OPERATION), arguments);
}



static int has_name(const char *names, const char *name)
{
    size_t length = strlen(name);
    for (; names != NULL; names = strchr(names, ':') ? strchr(names, ':') + 1 : NULL)
        if (strncmp(names, name, length) == 0 && (names[length] == ':' || names[length] == 0))
            return 1;
    return 0;
}

/* The first algorithm of a list that is as this one but for a size or a hash: ML-DSA-44 for ML-DSA-65. `last` is that of the one
   before it. */
static const char *like(const char *names, const char *last)
{
    return last != NULL && strncmp(names, last, 4) == 0 ? last : names;
}

static const OSSL_DISPATCH *named(int operation, const char *name)
{
    for (const OSSL_ALGORITHM *list = query(operation); list != NULL && list->algorithm_names != NULL; list++)
        if (has_name(list->algorithm_names, name))
            return list->implementation;
    return NULL;
}

struct loaded {
    char type[32];
    void *key;
    const OSSL_DISPATCH *keymgmt;
};

static int take(const OSSL_PARAM params[], void *argument)
{
    struct loaded *loaded = argument;
    const OSSL_PARAM *found = NULL;
    for (; params->key != NULL; params++) {
        if (strcmp(params->key, OSSL_OBJECT_PARAM_DATA_TYPE) == 0)
            snprintf(loaded->type, sizeof(loaded->type), "%.*s", (int)params->data_size, (const char *)params->data);
        if (strcmp(params->key, OSSL_OBJECT_PARAM_REFERENCE) == 0)
            found = params;
    }
    loaded->keymgmt = named(OSSL_OP_KEYMGMT, loaded->type);
    if (found == NULL || loaded->keymgmt == NULL)
        return 0;
    const word arguments[8] = {(word)found->data, found->data_size};
    loaded->key = (void *)invoke(find(loaded->keymgmt, OSSL_FUNC_KEYMGMT_LOAD), arguments);
    return loaded->key != NULL;
}

static struct loaded load(void)
{
    struct loaded loaded = {"", NULL, NULL};
    const OSSL_DISPATCH *store = named(OSSL_OP_STORE, "pkcs11");
    const word open[8] = {(word)provider, (word)uri};
    word context = invoke(find(store, OSSL_FUNC_STORE_OPEN), open);
    const word arguments[8] = {context, (word)take, (word)&loaded, (word)passphrase};
    if (context == 0 || (int)invoke(find(store, OSSL_FUNC_STORE_LOAD), arguments) != 1 || loaded.key == NULL)
        fail("the key cannot be loaded");
    give_back(store, OSSL_FUNC_STORE_CLOSE, context);
    return loaded;
}

/* A signature and its verification, as libcrypto makes them. */
static void sign_and_verify(const struct loaded *loaded)
{
    const word ask[8] = {OSSL_OP_SIGNATURE};
    const char *name = (const char *)invoke(find(loaded->keymgmt, OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME), ask);
    const OSSL_DISPATCH *table = named(OSSL_OP_SIGNATURE, name != NULL ? name : loaded->type);
    const char *digest = strncmp(loaded->type, "ED", 2) == 0 || strncmp(loaded->type, "ML-", 3) == 0 ? NULL : "SHA256";
    if (table == NULL)
        return;
    static const char message[] = "what nobody has tampered with";
    /* As EVP_PKEY_sign_message_init does from OpenSSL 3.4 on, where the key signs messages. */
    for (int verify = 0; verify < 2 && digest == NULL; verify++) {
        const word fresh[8] = {(word)provider};
        word context = invoke(find(table, OSSL_FUNC_SIGNATURE_NEWCTX), fresh);
        const word init[8] = {context, (word)loaded->key};
        output_length = verify ? output_length : 0;
        const word sign[8] = {context, (word)output, (word)&output_length, sizeof(output), (word)message, sizeof(message)};
        const word check[8] = {context, (word)output, output_length, (word)message, sizeof(message)};
        if ((int)invoke(find(table, verify ? 30 : 27), init) != 1
            || (int)invoke(find(table, verify ? OSSL_FUNC_SIGNATURE_VERIFY : OSSL_FUNC_SIGNATURE_SIGN), verify ? check : sign) != 1)
            fail("no signature of a message");
        give_back(table, OSSL_FUNC_SIGNATURE_FREECTX, context);
    }
    for (int verify = 0; verify < 2; verify++) {
        const word fresh[8] = {(word)provider};
        word context = invoke(find(table, OSSL_FUNC_SIGNATURE_NEWCTX), fresh);
        const word init[8] = {context, (word)digest, (word)loaded->key};
        if ((int)invoke(find(table, verify ? OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT : OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT), init) != 1)
            fail("no signature any more");
        const word sign[8] = {context, (word)output, (word)&output_length, sizeof(output), (word)message, sizeof(message)};
        const word check[8] = {context, (word)output, output_length, (word)message, sizeof(message)};
        if ((int)invoke(find(table, verify ? OSSL_FUNC_SIGNATURE_DIGEST_VERIFY : OSSL_FUNC_SIGNATURE_DIGEST_SIGN), verify ? check : sign) != 1)
            fail(verify ? "the signature is not valid" : "no signature any more");
        give_back(table, OSSL_FUNC_SIGNATURE_FREECTX, context);
    }
}

static void attack_table(int operation, const char *names, const OSSL_DISPATCH *table, void *key, int pairs, int inits)
{
    static char text[256];
    for (const OSSL_DISPATCH *entry = table; entry->function_id != 0; entry++) {
        snprintf(text, sizeof(text), "operation %d %s function %d", operation, names, entry->function_id);
        current = text;
        if (operation == 0 && entry->function_id == OSSL_FUNC_PROVIDER_TEARDOWN)
            continue;
        attack(operation, table, entry, NULL, key, pairs);
        /* On contexts that were initialised, in each way that there is. */
        if (inits && strchr(shape_of(operation, entry->function_id), 'c') != NULL)
            for (const OSSL_DISPATCH *init = table; init->function_id != 0; init++) {
                const char *shape = shape_of(operation, init->function_id);
                int is_digest = operation == OSSL_OP_DIGEST && init->function_id == OSSL_FUNC_DIGEST_INIT;
                if (strcmp(shape, "nckp") == 0 || strcmp(shape, "ncqkp") == 0 || is_digest)
                    attack(operation, table, entry, init, key, pairs);
            }
    }
}

int main(int argc, char **argv)
{
    if (argc < 6)
        return 2;
    module = argv[2], pin = argv[3];
    int pairs = atoi(argv[4]);
    void *library = dlopen(argv[1], RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    OSSL_provider_init_fn *init = (OSSL_provider_init_fn *)dlsym(library, "OSSL_provider_init");
    current = "OSSL_provider_init";
    const OSSL_DISPATCH empty[] = {{0, NULL}};
    if (init(NULL, NULL, NULL, NULL) != 0 || init(NULL, core, NULL, &provider) != 0 || init(NULL, core, &own, NULL) != 0)
        fail("a provider without a place for it");
    /* A core that offers nothing is enough to exist. */
    for (int without = 0; without < 2; without++) {
        if (init(NULL, without ? NULL : empty, &own, &provider) != 1)
            fail("no provider");
        give_back(own, OSSL_FUNC_PROVIDER_TEARDOWN, (word)provider);
    }
    if (init(NULL, core, &own, &provider) != 1)
        fail("no provider");
    memset(input, 0xc3, sizeof(input));
    uri = argv[5];
    attack_table(0, "provider", own, NULL, pairs, 0);
    for (int at = 5; at < argc; at++) {
        uri = argv[at];
        current = uri;
        struct loaded loaded = load();
        sign_and_verify(&loaded);
        for (int operation = 1; operation < 64; operation++) {
            const char *last = NULL;
            for (const OSSL_ALGORITHM *list = query(operation); list != NULL && list->algorithm_names != NULL; list++) {
                /* The store and the decoders once; others for each key, with a key of another type too: with the first. */
                if (at > 5 && operation != OSSL_OP_KEYMGMT && operation != OSSL_OP_KEYEXCH && operation != OSSL_OP_SIGNATURE
                    && operation != OSSL_OP_ASYM_CIPHER && operation != OSSL_OP_KEM && operation != OSSL_OP_ENCODER)
                    continue;
                /* One of each kind of context: CBC, CTS and GCM. */
                if (operation == OSSL_OP_CIPHER && strncmp(list->algorithm_names, "AES-192-CBC", 11) != 0
                    && strncmp(list->algorithm_names, "AES-192-GCM", 11) != 0)
                    continue;
                if (at > 5 && !has_name(list->algorithm_names, loaded.type)
                    && !(operation == OSSL_OP_SIGNATURE && strncmp(list->algorithm_names, "EC", 2) == 0 && loaded.type[1] == 'C'))
                    continue;
                const char *names = list->algorithm_names;
                last = like(names, last);
                /* They have their code in common, so the first stands for the others. */
                int is_first = operation < OSSL_OP_KEYMGMT || strcmp(names, last) == 0;
                attack_table(operation, names, list->implementation, loaded.key, pairs && is_first, is_first);
            }
        }
        current = uri;
        sign_and_verify(&loaded);
        give_back(loaded.keymgmt, OSSL_FUNC_KEYMGMT_FREE, (word)loaded.key);
    }
    give_back(own, OSSL_FUNC_PROVIDER_TEARDOWN, (word)provider);
    printf("%lu calls, %lu errors\n", calls, errors);
    return 0;
}
