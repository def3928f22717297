#!/usr/bin/env bash
# Boots Debian's kernel in QEMU with cgroup v2 alone and runs there the runtime's
# root tests and a smoke test of the whole engine; see README.md. It wants bin/ and
# .build/docker built. Arguments name the steps to run; none means all but cli.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PATH:/usr/sbin:/sbin
vm=$PWD/.build/vm
limit=${GANTRY_VM_TIMEOUT:-840}
mkdir -p "$vm" && rm -f "$vm/console" "$vm/report"

steps=$(IFS=,; echo "$*")
steps=${steps:-cgroup,container,smoke}
wanted() { [[ ,$steps, == *,$1,* ]]; }

# The emulator and what makes the disk, installed where they lack.
programs() {
	local missing=() pair
	for pair in qemu-system-x86_64:qemu-system-x86 cpio:cpio modprobe:kmod mkfs.ext4:e2fsprogs busybox:busybox-static; do
		command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	echo "installing ${missing[*]}"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Debian's kernel, unpacked and not installed; kept for the next time.
kernel() {
	if [ ! -e "$vm/kernel/modules" ]; then
		local package
		package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image-/ {print $2; exit}')
		rm -rf "$vm/kernel" && mkdir -p "$vm/kernel"
		(cd "$vm/kernel" && apt-get download -qq "$package" 2>/dev/null && dpkg -x ./*.deb . && rm ./*.deb)
		depmod -b "$vm/kernel" "$(ls "$vm/kernel/lib/modules")"
		touch "$vm/kernel/modules"
	fi
	release=$(ls "$vm/kernel/lib/modules")
}

# The first root: busybox, the modules in the order in which they depend on each
# other, and an init that finds the disk.
ramdisk() {
	local tree=$vm/initrd n=100 name file
	rm -rf "$tree" && mkdir -p "$tree"/{bin,modules,proc,sys,dev,disk}
	cp "$(command -v busybox)" "$tree/bin/busybox"
	while read -r name; do
		modprobe -d "$vm/kernel" -S "$release" --show-depends "$name" | awk '$1 == "insmod" {print $2}'
	done <contrib/vm/modules | awk '!seen[$0]++' | while read -r file; do
		cp "$file" "$tree/modules/$n-$(basename "$file")"
		n=$((n + 1))
	done
	install -m 755 contrib/vm/init-ramdisk "$tree/init"
	(cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1 >"$vm/initrd.gz")
}

# The second root: busybox and its links, our binaries, the docker CLI, the tests.
disk() {
	local tree=$vm/tree package
	rm -rf "$tree" && mkdir -p "$tree"/{bin,sbin,proc,sys,dev,tmp,run,root,etc,var/lib,gantry}
	cp "$(command -v busybox)" "$tree/bin/busybox"
	busybox --list | grep -vx busybox | while read -r name; do ln -s busybox "$tree/bin/$name"; done
	printf 'root:x:0:0:root:/root:/bin/sh\n' >"$tree/etc/passwd"
	printf 'root:x:0:\n' >"$tree/etc/group"
	printf '127.0.0.1 localhost\n' >"$tree/etc/hosts"
	printf 'hosts: files\n' >"$tree/etc/nsswitch.conf"
	cp "${GANTRY_BIN:-bin}"/* .build/docker "$tree/bin/"
	for package in runtime/cgroup:cgroup runtime/container:container integration-cli:cli; do
		wanted "${package#*:}" || continue
		CGO_ENABLED=0 go test -c -o "$tree/gantry/${package#*:}.test" "./${package%:*}"
	done
	install -m 755 contrib/vm/{init,steps,smoke} "$tree/gantry/"
	rm -f "$vm/disk.img" && truncate -s 2G "$vm/disk.img"
	mkfs.ext4 -q -F -E lazy_itable_init=1 -d "$tree" "$vm/disk.img"
}

boot() {
	timeout -k 5 "$limit" nice -n 5 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 2048 -smp 2 \
		-display none -serial "file:$vm/console" -monitor none -no-reboot -nic none \
		-kernel "$vm/kernel/boot/vmlinuz-$release" -initrd "$vm/initrd.gz" \
		-drive "file=$vm/disk.img,if=virtio,format=raw,cache=unsafe" \
		-append "console=ttyS0 quiet panic=-1 gantry.steps=$1" </dev/null &
	trap "kill $! 2>/dev/null || true" EXIT
	wait $! || echo "the machine ended with $?"
}

programs
kernel
ramdisk
disk
boot "$steps"
# What a step prints stands between its marks; a terminal's line ends go.
tr -d '\r' <"$vm/console" | sed -n '/^VM-/,$p' | tee "$vm/report" | grep -E '^VM-|^ *(--- (FAIL|SKIP)|FAIL|panic)|^(PASS|ok|not ok)' || true
if ! grep -q '^VM-DONE 0$' "$vm/report"; then
	echo "the whole console: $vm/console"
	tail -n 60 "$vm/report"
	exit 1
fi
