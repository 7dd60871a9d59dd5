#include "cmd/litefs/bucket.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The first that is set. */
static const char *
choose_credential(const char *value, const char *variable, const char *other_variable)
{
        const char *other;

        if (value[0] != '\0')
                return value;
        other = getenv(variable);
        if ((other == NULL || other[0] == '\0') && other_variable != NULL)
                other = getenv(other_variable);
        return other != NULL ? other : "";
}

static const char *
environment(const char *variable)
{
        const char *value = getenv(variable);

        return value != NULL ? value : "";
}

/* The path that @variable has, or @name in ~/.aws. */
static void
find_aws_file(const char *variable, const char *name, char *buf, size_t size)
{
        const char *path = environment(variable), *home = environment("HOME");
        int n = path[0] != '\0'   ? snprintf(buf, size, "%s", path)
                : home[0] != '\0' ? snprintf(buf, size, "%s/.aws/%s", home, name)
                                  : 0;

        if (n <= 0 || (size_t)n >= size)
                buf[0] = '\0';
}

/* Where AWS's tools look, when no keys are given. Each is the environment's, and stays. */
static struct aws_sources
sources_of_keys(void)
{
        struct aws_sources s = {
                .role_arn = environment("AWS_ROLE_ARN"),
                .web_identity_token_file = environment("AWS_WEB_IDENTITY_TOKEN_FILE"),
                .role_session_name = environment("AWS_ROLE_SESSION_NAME"),
                .sts_endpoint = environment("AWS_ENDPOINT_URL_STS"),
                .region = choose_credential("", "AWS_REGION", "AWS_DEFAULT_REGION"),
                .profile = environment("AWS_PROFILE"),
                .container_relative_uri = environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
                .container_full_uri = environment("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
                .container_token = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
                .container_token_file = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
                .metadata_endpoint = environment("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
                .is_metadata_disabled = strcasecmp(environment("AWS_EC2_METADATA_DISABLED"), "true") ==
                                        0,
        };

        find_aws_file("AWS_SHARED_CREDENTIALS_FILE", "credentials", s.credentials_file,
                      sizeof s.credentials_file);
        find_aws_file("AWS_CONFIG_FILE", "config", s.config_file, sizeof s.config_file);
        return s;
}

void
bucket_options(const struct bucket_config *config, struct aws_sources *ret_sources,
               struct s3_options *ret)
{
        /* A key belongs to its secret, and both to a token. */
        bool is_given = config->access_key_id[0] != '\0';

        *ret_sources = sources_of_keys();
        *ret = (struct s3_options){
                .endpoint = choose_credential(config->endpoint, "AWS_ENDPOINT_URL_S3",
                                              "AWS_ENDPOINT_URL"),
                .region = choose_credential(config->region, "AWS_REGION", "AWS_DEFAULT_REGION"),
                .is_path_style = config->force_path_style,
                .access_key_id = choose_credential(config->access_key_id, "AWS_ACCESS_KEY_ID",
                                                   "LITESTREAM_ACCESS_KEY_ID"),
                .secret_access_key = choose_credential(config->secret_access_key,
                                                       "AWS_SECRET_ACCESS_KEY",
                                                       "LITESTREAM_SECRET_ACCESS_KEY"),
                .session_token = is_given ? config->session_token
                                          : choose_credential("", "AWS_SESSION_TOKEN", NULL),
                .sources = ret_sources,
                .storage_class = config->storage_class,
                .kms_key_id = config->kms_key_id,
                .customer_key = config->customer_key,
                .ca = choose_credential(config->ca, "AWS_CA_BUNDLE", NULL),
                .clock = clock_host(),
        };
}
