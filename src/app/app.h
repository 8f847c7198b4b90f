/* The server: wiring of the rooms. `drover serve` ends here. */
#ifndef APP_APP_H
#define APP_APP_H

/* argv[0] is "serve". Returns the exit status. */
int app_serve(int argc, char **argv);

#endif
