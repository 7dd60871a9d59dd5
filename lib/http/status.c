/* Errors as HTTP statuses: here and nowhere else. */
#include <errno.h>

#include "http/api_internal.h"

int
api_status(int code)
{
        switch (code) {
        case 0:
                return 200;
        case -EINVAL:
        case -ENAMETOOLONG:
        case E_FORMAT:
                return 400;
        case -ENOENT:
        case E_NOT_FOUND:
                return 404;
        case E_NOT_HELD:
        case E_POS_MISMATCH:
                return 409;
        case -EFBIG:
        case -EMSGSIZE:
                return 413;
        case -ENOTSUP:
                return 501;
        case -EAGAIN:
        case -EBUSY:
        case E_BUSY_DB:
        case E_NOT_PRIMARY:
        case E_FENCED:
        case E_UNCONFIRMED:
                return 503;
        case -ENOSPC:
        case -EDQUOT:
                return 507;
        default:
                return 500;
        }
}
