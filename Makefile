# Thin: every target is one command of tools/ or Meson. `make help` lists them.
.POSIX:
.SUFFIXES:
ARGS =

help:
	@echo "make run      install what is missing, build, start the server (ARGS=\"--demo\" …)"
	@echo "make build    build/drover, build/drover-agent, build/drover-shim and the web interface"
	@echo "make test     install what the tests need and run all of them"
	@echo "make check    the inner loop: format, layers, warnings, unit and contract tests (under 2 min)"
	@echo "make dev      the server with the web interface reloading as you edit it"
	@echo "make format   clang-format over the C files"
	@echo "make soak     long fault runs (hours)        make bench   how fast it is on this machine"
	@echo "make fuzz     the parsers on random bytes    make clean   remove what was built (not ./data)"

run:
	@tools/run $(ARGS)

build:
	@tools/setup build
	@tools/build

test:
	@tools/setup test
	@tools/test $(ARGS)

check:
	@tools/setup test
	@tools/test --check $(ARGS)

dev:
	@tools/dev $(ARGS)

soak:
	@tools/setup test
	@tools/test --soak $(ARGS)

bench:
	@tools/setup test bench
	@tools/build
	@tools/test --bench $(ARGS)

fuzz:
	@tools/setup test
	@tools/fuzz $(ARGS)

format:
	@tools/check-format --fix

clean:
	rm -rf build build-* web/dist

.PHONY: help run build test check dev soak bench fuzz format clean
