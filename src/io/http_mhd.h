/* libmicrohttpd's callbacks, between http.c and http_request.c. */
#ifndef IO_HTTP_MHD_H
#define IO_HTTP_MHD_H

#include <microhttpd.h>

void *http_mhd_uri(void *cls, const char *uri, struct MHD_Connection *mhd);
size_t http_mhd_unescape(void *cls, struct MHD_Connection *mhd, char *s);
enum MHD_Result http_mhd_handle(void *cls, struct MHD_Connection *mhd, const char *url,
                                const char *method, const char *version, const char *data,
                                size_t *n, void **req_cls);
void http_mhd_completed(void *cls, struct MHD_Connection *mhd, void **req_cls,
                        enum MHD_RequestTerminationCode code);

#endif
