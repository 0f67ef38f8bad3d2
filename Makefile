# Thin: each target calls one thing. `target/` is a source folder; cargo builds into `build/`.
export CARGO_TARGET_DIR := $(CURDIR)/build

.PHONY: run test bench image clean

# Sets up what is missing, builds, and runs the appliance on its embedded default.
run:
	scripts/setup run
	cargo build --release --locked -p forebay
	build/release/forebay serve $(ARGS)

# Sets up what is missing and runs every test. Skips are counted and printed.
test:
	scripts/setup test
	scripts/test

# Measures every promise of bench/PROMISES.md.
bench:
	scripts/setup run
	cargo build --release --locked -p forebay -p bench
	build/release/bench run $(ARGS)

# Builds the appliance's image, build/image/forebay.img, and the signed update forebay.efi.
image:
	scripts/setup image
	cargo build --release --locked -p forebay
	image/build $(ARGS)

clean:
	rm -rf build
