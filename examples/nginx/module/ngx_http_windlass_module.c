/* The side of nginx: a descriptor among its connections, and a content handler. */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>

int windlass_attach(void);
int windlass_turn(void);
void *windlass_start(void *request, const u_char *args, size_t length);
void windlass_cancel(void *task);

/* The time limit of a request. A worker that shuts down gracefully waits for timers only, so each request
   needs one. */
#define LIMIT 60000 /* ms */

static ngx_connection_t *guest;

static void ngx_http_windlass_turn(ngx_event_t *event)
{
    if (windlass_turn() != 0) {
        ngx_log_error(NGX_LOG_ALERT, event->log, ngx_errno, "the poller of windlass failed");
    }
}

static ngx_int_t ngx_http_windlass_init_process(ngx_cycle_t *cycle)
{
    int fd;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE) {
        return NGX_OK;
    }
    fd = windlass_attach();
    if (fd == -1) {
        return NGX_ERROR;
    }
    guest = ngx_get_connection(fd, cycle->log);
    if (guest == NULL) {
        return NGX_ERROR;
    }
    guest->read->handler = ngx_http_windlass_turn;
    guest->read->log = cycle->log;
    return ngx_add_event(guest->read, NGX_READ_EVENT, NGX_LEVEL_EVENT);
}

static void ngx_http_windlass_exit_process(ngx_cycle_t *cycle)
{
    if (guest != NULL) {
        ngx_del_event(guest->read, NGX_READ_EVENT, 0);
        ngx_free_connection(guest);
        guest->fd = (ngx_socket_t) -1; /* the runtime closes it */
        guest = NULL;
    }
}

void ngx_http_windlass_respond(void *request, size_t status, const u_char *body, size_t length)
{
    ngx_http_request_t *r = request;
    ngx_connection_t *c = r->connection;
    ngx_chain_t out;
    ngx_buf_t *buf;
    ngx_int_t rc;

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }
    buf = ngx_create_temp_buf(r->pool, length > 0 ? length : 1);
    if (buf == NULL) {
        rc = NGX_HTTP_INTERNAL_SERVER_ERROR;
    } else {
        buf->last = ngx_cpymem(buf->last, body, length);
        buf->last_buf = 1;
        buf->last_in_chain = 1;
        out.buf = buf;
        out.next = NULL;
        r->headers_out.status = status;
        r->headers_out.content_length_n = length;
        rc = ngx_http_send_header(r);
        if (rc == NGX_OK && !r->header_only) {
            rc = ngx_http_output_filter(r, &out);
        }
    }
    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}

static void ngx_http_windlass_write(ngx_http_request_t *r)
{
    if (r->connection->write->timedout) {
        ngx_http_finalize_request(r, NGX_HTTP_GATEWAY_TIME_OUT);
    }
}

static ngx_int_t ngx_http_windlass_handler(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t *cleanup;
    ngx_int_t rc;

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }
    cleanup = ngx_pool_cleanup_add(r->pool, 0);
    if (cleanup == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    r->main->count++;
    r->read_event_handler = ngx_http_test_reading; /* sees that the client goes */
    r->write_event_handler = ngx_http_windlass_write;
    ngx_add_timer(r->connection->write, LIMIT);
    cleanup->data = windlass_start(r, r->args.data, r->args.len);
    cleanup->handler = windlass_cancel;
    return NGX_DONE;
}

static char *ngx_http_windlass(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t *location;

    location = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    location->handler = ngx_http_windlass_handler;
    return NGX_CONF_OK;
}

static ngx_command_t ngx_http_windlass_commands[] = {
    { ngx_string("windlass"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS, ngx_http_windlass, 0, 0, NULL },
    ngx_null_command
};

static ngx_http_module_t ngx_http_windlass_context = { NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL };

ngx_module_t ngx_http_windlass_module = {
    NGX_MODULE_V1,
    &ngx_http_windlass_context,
    ngx_http_windlass_commands,
    NGX_HTTP_MODULE,
    NULL,
    NULL,
    ngx_http_windlass_init_process,
    NULL,
    NULL,
    ngx_http_windlass_exit_process,
    NULL,
    NGX_MODULE_V1_PADDING
};
