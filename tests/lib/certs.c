#include "tests/lib/certs.h"

#include <stdio.h>
#include <stdlib.h>

void
certs_make(const char *dir, const char *name, const char *issuer, const char *names)
{
        char command[4096], signer[2048] = " -addext keyUsage=critical,keyCertSign,cRLSign";

        if (issuer != NULL)
                snprintf(signer, sizeof signer,
                         " -CA %s/%s.pem -CAkey %s/%s.key -addext subjectAltName=%s"
                         " -addext basicConstraints=critical,CA:FALSE",
                         dir, issuer, dir, issuer, names);
        snprintf(
                command, sizeof command,
                "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=%s"
                " -keyout %s/%s.key -out %s/%s.pem%s 2>%s/openssl.log",
                name, dir, name, dir, name, signer, dir);
        if (system(command) != 0) {
                fprintf(stderr, "this failed: %s\n", command);
                abort();
        }
}
