# Thin: each target calls one thing. `target/` is a source folder; cargo builds into `build/`.
export CARGO_TARGET_DIR := $(CURDIR)/build

.PHONY: run check test lab bench image screenshots clean

# Sets up what is missing, builds, and runs the appliance with something to try on loopback.
run:
	scripts/setup run
	scripts/web build
	cargo build --release --locked -p forebay
	build/release/forebay serve $(or $(ARGS),--demo)

# Format, lint, and short tests of the crates that changed and of those that use them.
check:
	scripts/test check

# Sets up what is missing and runs every test. Skips are counted and printed.
test:
	scripts/test

# Stock hosts on both kernels, in the long form.
lab:
	scripts/test lab $(ARGS)

# Measures every promise of bench/PROMISES.md, with the optimisations of images and packages.
bench:
	scripts/setup run
	scripts/web build
	cargo build --profile dist --locked -p forebay -p bench
	build/dist/bench run $(ARGS)

# Builds the appliance's image, build/image/forebay.img, and the signed update forebay.efi.
image:
	scripts/setup image
	scripts/web build
	cargo build --profile dist --locked -p forebay
	image/build $(ARGS)

# A picture of each page, light, dark and narrow, into build/screenshots.
screenshots:
	scripts/setup test
	scripts/web build
	cargo build --release --locked -p forebay
	scripts/web pictures

clean:
	rm -rf build
