/* tests/lib/certs.h - certificates of a test's own, made by the program openssl. */
#ifndef LITEFS_TESTS_CERTS_H
#define LITEFS_TESTS_CERTS_H

/* Makes @dir/@name.pem and @dir/@name.key. @issuer is the name of one made before; NULL: it signs itself, and may sign
 * others. @names as in subjectAltName: "DNS:localhost,IP:127.0.0.1". Aborts when it cannot. */
void certs_make(const char *dir, const char *name, const char *issuer, const char *names);

#endif
