/* The five envelopes: how success and failure look on each surface (contract 1.6; the native one
 * is RFC 9457). */
#include "surface/surface.h"

#include "base/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- platform: plain JSON, {"detail": …} ---- */

static void platform_issue(struct json *j, const struct issue *i)
{
    json_open(j, '{');
    json_ktext(j, "type", i->rule);
    json_key(j, "loc");
    json_open(j, '[');
    for (int k = 0; k < i->depth; k++)
        if (i->loc[k].name != NULL)
            json_text(j, i->loc[k].name);
        else
            json_int(j, i->loc[k].index);
    json_close(j, ']');
    json_ktext(j, "msg", i->message);
    json_key(j, "input");
    json_raw(j, i->input != NULL ? i->input : "null");
    if (i->ctx != NULL) {
        json_key(j, "ctx");
        json_raw(j, i->ctx);
    }
    json_close(j, '}');
}

/* Codes whose reason is told beside them, as the documents show it. */
static bool code_with_reason(const char *code)
{
    size_t n = strlen(code);
    static const char tail[] = "INVALID_PASSWORD";
    return n >= sizeof(tail) - 1 && strcmp(code + n - (sizeof(tail) - 1), tail) == 0;
}

static void platform_error(struct request *q, struct json *j, const struct err *e)
{
    json_open(j, '{');
    json_key(j, "detail");
    if (e->kind == ERR_INVALID && q->issues.n > 0) {
        json_open(j, '[');
        for (int i = 0; i < q->issues.n; i++)
            platform_issue(j, &q->issues.items[i]);
        json_close(j, ']');
    } else if (e->code[0] != '\0' && code_with_reason(e->code)) {
        json_open(j, '{');
        json_ktext(j, "code", e->code);
        json_ktext(j, "reason", e->text);
        json_close(j, '}');
    } else if (e->code[0] != '\0') {
        json_text(j, e->code);
    } else if (e->kind == ERR_UNAUTHENTICATED) {
        json_text(j, "Unauthorized");
    } else if (e->kind == ERR_FORBIDDEN) {
        json_text(j, "Forbidden");
    } else if (e->kind == ERR_LIMITED) {
        json_text(j, "Too Many Requests");
    } else {
        json_text(j, e->text);
    }
    json_close(j, '}');
}

static const char *platform_error_schema(int status)
{
    if (status == 422)
        return "{\"type\":\"object\",\"required\":[\"detail\"],\"additionalProperties\":false,"
               "\"properties\":{\"detail\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\","
               "\"items\":{\"type\":\"object\",\"required\":[\"type\",\"loc\",\"msg\",\"input\"],"
               "\"additionalProperties\":false,\"properties\":{\"type\":{\"type\":\"string\"},"
               "\"loc\":{\"type\":\"array\",\"items\":{\"type\":[\"string\",\"integer\"]}},"
               "\"msg\":{\"type\":\"string\"},\"input\":{},\"ctx\":{\"type\":\"object\"}}}}]}}}";
    return "{\"type\":\"object\",\"required\":[\"detail\"],\"additionalProperties\":false,"
           "\"properties\":{\"detail\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"object\","
           "\"required\":[\"code\",\"reason\"],\"additionalProperties\":false,\"properties\":{"
           "\"code\":{\"type\":\"string\"},\"reason\":{\"type\":\"string\"}}}]}}}";
}

const struct surface platform_surface = {
    .name = "platform",
    .error_type = "application/json",
    .parse = PARSE_LAX,
    .bad_path_status = 422,
    .error = platform_error,
    .error_schema = platform_error_schema,
};

/* ---- training: {"code","message","data","timestamp"} always ---- */

static void training_open(struct json *j, int code, const char *message)
{
    json_open(j, '{');
    json_kint(j, "code", code);
    json_ktext(j, "message", message);
    json_key(j, "data");
}

static void training_close(struct json *j, int64_t at_us)
{
    json_kint(j, "timestamp", at_us / US_PER_S);
    json_close(j, '}');
}

static void training_wrap(struct request *q, struct json *j, const struct view *v, const void *obj)
{
    training_open(j, q->status, "success");
    view_write(j, v, obj);
    training_close(j, q->snapshot_us > 0 ? q->snapshot_us : now_us());
}

/* [{"field", "message"}, …]: the form that two surfaces share. */
static void field_messages(struct request *q, struct json *j)
{
    json_key(j, "errors");
    json_open(j, '[');
    for (int i = 0; i < q->issues.n; i++) {
        json_open(j, '{');
        json_ktext(j, "field", issue_field(&q->issues.items[i], q->arena));
        json_ktext(j, "message", q->issues.items[i].message);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static const char *own_header(const struct request *q, const char *name)
{
    for (size_t i = 0; i < q->n_headers; i++)
        if (strcmp(q->headers[i].name, name) == 0)
            return q->headers[i].value;
    return "0";
}

/* What the limit was, as its headers say it (contract 1.6). */
static void limit_facts(const struct request *q, struct json *j, const struct err *e)
{
    json_open(j, '{');
    json_kint(j, "limit", strtoll(own_header(q, "X-RateLimit-Limit"), NULL, 10));
    json_kint(j, "remaining", 0);
    json_ktime(j, "reset_time", strtoll(own_header(q, "X-RateLimit-Reset"), NULL, 10) * US_PER_S);
    json_kint(j, "retry_after", e->retry_after_s);
    json_close(j, '}');
}

static void training_error(struct request *q, struct json *j, const struct err *e)
{
    training_open(j, q->status, e->text);
    if (e->kind == ERR_INVALID && q->issues.n > 0 && q->status == 422) {
        json_open(j, '{');
        field_messages(q, j);
        json_close(j, '}');
    } else if (e->kind == ERR_LIMITED) {
        limit_facts(q, j, e);
    } else {
        json_null(j);
    }
    training_close(j, now_us());
}

static void training_wrap_schema(struct json *j, const struct view *v, const char *schema)
{
    (void)v;
    json_open(j, '{');
    json_raw((json_key(j, "type"), j), "\"object\"");
    json_raw((json_key(j, "required"), j), "[\"code\",\"message\",\"data\",\"timestamp\"]");
    json_kbool(j, "additionalProperties", false);
    json_key(j, "properties");
    json_open(j, '{');
    json_raw((json_key(j, "code"), j), "{\"type\":\"integer\"}");
    json_raw((json_key(j, "message"), j), "{\"type\":\"string\"}");
    json_raw((json_key(j, "data"), j), schema);
    json_raw((json_key(j, "timestamp"), j), "{\"type\":\"integer\"}");
    json_close(j, '}');
    json_close(j, '}');
}

static const char *training_error_schema(int status)
{
    (void)status;
    return "{\"type\":\"object\",\"required\":[\"code\",\"message\",\"data\",\"timestamp\"],"
           "\"additionalProperties\":false,\"properties\":{\"code\":{\"type\":\"integer\"},"
           "\"message\":{\"type\":\"string\"},\"data\":{\"type\":[\"object\",\"null\",\"string\"]},"
           "\"timestamp\":{\"type\":\"integer\"}}}";
}

/* A parameter of the query that cannot be read is 400 here (contract 4). */
static int training_status(const struct request *q, const struct err *e)
{
    if (e->kind == ERR_INVALID && q->issues.n > 0 && q->issues.items[0].loc[0].name != NULL &&
        strcmp(q->issues.items[0].loc[0].name, "query") == 0)
        return 400;
    return err_row(e->kind)->http_status;
}

const struct surface training_surface = {
    .name = "training",
    .error_type = "application/json",
    .parse = PARSE_LAX,
    .bad_path_status = 404,
    .wrap = training_wrap,
    .wrap_schema = training_wrap_schema,
    .error = training_error,
    .error_schema = training_error_schema,
    .status_of = training_status,
};

/* ---- inference: {"success","data","message","code"}; errors as platform ---- */

static void inference_wrap(struct request *q, struct json *j, const struct view *v, const void *obj)
{
    json_open(j, '{');
    json_kbool(j, "success", true);
    json_key(j, "data");
    view_write(j, v, obj);
    json_ktext(j, "message", "success");
    json_kint(j, "code", 200);
    json_close(j, '}');
}

static void inference_error(struct request *q, struct json *j, const struct err *e)
{
    if (q->status != 500) {
        platform_error(q, j, e);
        return;
    }
    char text[ERR_TEXT_MAX + 64];
    snprintf(text, sizeof(text), "An unexpected error occurred: %s", e->text);
    json_open(j, '{');
    json_kbool(j, "success", false);
    json_ktext(j, "message", text);
    json_knull(j, "data");
    json_close(j, '}');
}

static void inference_wrap_schema(struct json *j, const struct view *v, const char *schema)
{
    (void)v;
    json_open(j, '{');
    json_raw((json_key(j, "type"), j), "\"object\"");
    json_raw((json_key(j, "required"), j), "[\"success\",\"data\",\"message\",\"code\"]");
    json_kbool(j, "additionalProperties", false);
    json_key(j, "properties");
    json_open(j, '{');
    json_raw((json_key(j, "success"), j), "{\"type\":\"boolean\"}");
    json_raw((json_key(j, "data"), j), schema);
    json_raw((json_key(j, "message"), j), "{\"type\":\"string\"}");
    json_raw((json_key(j, "code"), j), "{\"type\":\"integer\"}");
    json_close(j, '}');
    json_close(j, '}');
}

const struct surface inference_surface = {
    .name = "inference",
    .error_type = "application/json",
    .parse = PARSE_LAX,
    .bad_path_status = 422,
    .wrap = inference_wrap,
    .wrap_schema = inference_wrap_schema,
    .error = inference_error,
    .error_schema = platform_error_schema,
};

/* ---- baremetal: bare objects, {"message": …} ---- */

static void baremetal_error(struct request *q, struct json *j, const struct err *e)
{
    json_open(j, '{');
    json_ktext(j, "message", e->text);
    if (q->status == 422) {
        field_messages(q, j);
    }
    json_close(j, '}');
}

static int baremetal_status(const struct request *q, const struct err *e)
{
    if (e->kind == ERR_INVALID && q->issues.n > 0 && q->issues.items[0].loc[0].name != NULL &&
        strcmp(q->issues.items[0].loc[0].name, "query") == 0)
        return 400;
    return err_row(e->kind)->http_status;
}

static const char *baremetal_error_schema(int status)
{
    if (status == 422)
        return "{\"type\":\"object\",\"required\":[\"message\",\"errors\"],"
               "\"additionalProperties\":false,\"properties\":{\"message\":{\"type\":\"string\"},"
               "\"errors\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":"
               "[\"field\",\"message\"],\"additionalProperties\":false,\"properties\":{\"field\":"
               "{\"type\":\"string\"},\"message\":{\"type\":\"string\"}}}}}}";
    return "{\"type\":\"object\",\"required\":[\"message\"],\"additionalProperties\":false,"
           "\"properties\":{\"message\":{\"type\":\"string\"}}}";
}

const struct surface baremetal_surface = {
    .name = "baremetal",
    .error_type = "application/json",
    .parse = PARSE_LAX,
    .bad_path_status = 400,
    .error = baremetal_error,
    .error_schema = baremetal_error_schema,
    .status_of = baremetal_status,
};

/* ---- native: RFC 9457 problem details ---- */

static void native_error(struct request *q, struct json *j, const struct err *e)
{
    const struct err_row *row = err_row(e->kind);
    char type[64], title[64];
    snprintf(type, sizeof(type), "/problems/%s", row->name);
    snprintf(title, sizeof(title), "%s", row->name);
    for (char *c = title; *c != '\0'; c++)
        if (*c == '_')
            *c = ' ';
    json_open(j, '{');
    json_ktext(j, "type", type);
    json_ktext(j, "title", title);
    json_kint(j, "status", q->status);
    json_ktext(j, "detail", e->text);
    json_ktext(j, "code", e->code[0] != '\0' ? e->code : row->name);
    json_ktext(j, "request_id", q->request_id);
    json_key(j, "errors");
    json_open(j, '[');
    for (int i = 0; e->kind == ERR_INVALID && i < q->issues.n; i++) {
        json_open(j, '{');
        json_ktext(j, "field", issue_field(&q->issues.items[i], q->arena));
        json_ktext(j, "rule", q->issues.items[i].rule);
        json_ktext(j, "message", q->issues.items[i].message);
        json_close(j, '}');
    }
    json_close(j, ']');
    json_ktext(j, "hint", q->hint);
    json_close(j, '}');
}

static const char *native_error_schema(int status)
{
    (void)status;
    return "{\"type\":\"object\",\"required\":[\"type\",\"title\",\"status\",\"detail\",\"code\","
           "\"request_id\",\"errors\",\"hint\"],\"additionalProperties\":false,\"properties\":{"
           "\"type\":{\"type\":\"string\"},\"title\":{\"type\":\"string\"},"
           "\"status\":{\"type\":\"integer\"},\"detail\":{\"type\":\"string\"},"
           "\"code\":{\"type\":\"string\"},\"request_id\":{\"type\":\"string\"},"
           "\"errors\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"field\","
           "\"rule\",\"message\"],\"additionalProperties\":false,\"properties\":{\"field\":{"
           "\"type\":\"string\"},\"rule\":{\"type\":\"string\"},\"message\":{\"type\":\"string\"}}}"
           "},"
           "\"hint\":{\"type\":[\"string\",\"null\"]}}}";
}

const struct surface native_surface = {
    .name = "native",
    .error_type = "application/problem+json",
    .parse = PARSE_CLOSED,
    .bad_path_status = 422,
    .error = native_error,
    .error_schema = native_error_schema,
};

/* ---- which envelope an unknown path answers in ---- */

const struct surface_prefix surface_prefixes[] = {
    {"/v1", &native_surface},
    {"/api/v1/gpu", &training_surface},
    {"/api/v1/training", &training_surface},
    {"/api/v1/preprocess", &training_surface},
    {"/api/v1/system", &training_surface},
    {"/api/v1/auth", &training_surface},
    {"/api/v1/models/list", &training_surface},
    {"/api/v1/models/download", &training_surface},
    {"/api/v1/models/upload", &training_surface},
    {"/api/v1/gpus", &baremetal_surface},
    {"/api/v1/servers", &baremetal_surface},
    {"/api/v1/allocations", &baremetal_surface},
    {"/api/v1/workflows", &baremetal_surface},
    {"/api/v1/events", &baremetal_surface},
    {"/api/v1/alerts", &baremetal_surface},
    {"/api/v1/users", &baremetal_surface},
    {"/api/v1", &inference_surface},
    {"", &platform_surface},
};
const size_t n_surface_prefixes = ARRAY_LEN(surface_prefixes);
