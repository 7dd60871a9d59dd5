#include "proxy/node_upgrade.h"

#include <errno.h>

const struct upgrade_protocol node_upgrade_protocol = { "/proxy", "litefs-proxy/1" };

size_t
node_upgrade_request(const char *address, const char *token, char buf[NODE_UPGRADE_SIZE])
{
        return upgrade_request(&node_upgrade_protocol, address, token, buf, NODE_UPGRADE_SIZE);
}

int
node_upgrade_check_answer(const struct upgrade *u, struct err *e)
{
        switch (upgrade_status(u)) {
        case 503:
                return err_text(e, -EAGAIN, "its proxy takes no requests now");
        case 401:
                return err_text(
                        e, -EACCES,
                        "authentication failed: the tokens differ; http.token must be the same on all nodes");
        case 404:
        case 426: /* not one that could be served */
                return err_text(e, -ENOENT, "it has no proxy: proxy.target must be set there");
        default:
                return upgrade_check_response(u, &node_upgrade_protocol, e);
        }
}
