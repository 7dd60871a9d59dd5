/* cmd/litefs/bucket.h - how a bucket is reached: what litefs.yml says of it, and where it says nothing, the environment. */
#ifndef LITEFS_CMD_BUCKET_H
#define LITEFS_CMD_BUCKET_H

#include "s3/s3.h"

/* Of a section of litefs.yml; "" is not set. */
struct bucket_config {
        const char *endpoint, *region, *access_key_id, *secret_access_key, *session_token, *ca;
        bool force_path_style;
        const char *storage_class, *kms_key_id, *customer_key; /* NULL: not of this section */
};

/* Borrows all that it fills in: from @config, from the environment, and from @ret_sources. */
void bucket_options(const struct bucket_config *config, struct aws_sources *ret_sources,
                    struct s3_options *ret);

#endif
