#!/usr/bin/env bash
# Boots Debian's kernel in QEMU with cgroup v2 alone and runs there what `list` lists;
# see README.md. It wants bin/ and .build/docker built. Arguments name the steps to
# run; none means those that run always.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PATH:/usr/sbin:/sbin
here=contrib/vm
vm=${GANTRY_VM_DIR:-$PWD/.build/vm}
limit=${GANTRY_VM_TIMEOUT:-840}
mkdir -p "$vm" && rm -f "$vm"/{console,report,disk}*

entries() { grep -v '^#' $here/list | grep .; }

# wanted MACHINE: the steps to run on it; nameless ones run when none is named.
named=$(IFS=,; echo "$*")
wanted() {
	entries | awk -v machine="$1" -v named="$named" \
		'$2 == machine && (named == "" ? $4 == "always" : index("," named ",", "," $1 ","))'
}
for step in "$@"; do
	entries | awk -v s="$step" '$1 == s {found = 1} END {exit !found}' || { echo "no step $step in $here/list"; exit 2; }
done

# The emulator and what makes the disk, installed where they lack.
programs() {
	local missing=() pair
	for pair in qemu-system-x86_64:qemu-system-x86 cpio:cpio modprobe:kmod mkfs.ext4:e2fsprogs busybox:busybox-static mmdebstrap:mmdebstrap; do
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
	done <$here/modules | awk '!seen[$0]++' | while read -r file; do
		cp "$file" "$tree/modules/$n-$(basename "$file")"
		n=$((n + 1))
	done
	install -m 755 $here/init-ramdisk "$tree/init"
	(cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1 >"$vm/initrd.gz")
}

# The disk's root on each machine.
busybox_root() {
	mkdir -p "$1"/{bin,sbin,proc,sys,dev,tmp,run,root,etc,var/{lib,tmp}}
	cp "$(command -v busybox)" "$1/bin/busybox"
	busybox --list | grep -vx busybox | while read -r name; do ln -s busybox "$1/bin/$name"; done
	printf 'root:x:0:0:root:/root:/bin/sh\n' >"$1/etc/passwd"
	printf 'root:x:0:\n' >"$1/etc/group"
	printf '127.0.0.1 localhost\n' >"$1/etc/hosts"
	printf 'hosts: files\n' >"$1/etc/nsswitch.conf"
}

# program ROOT NAME...: programs of this machine, with the libraries that they load.
program() {
	local root=$1 name path
	shift
	for name in "$@"; do
		path=$(readlink -f "$(command -v "$name")")
		install -D -m 755 "$path" "$root/usr/bin/$name"
		{ ldd "$path" 2>/dev/null || true; } | grep -oE '/[^ ]+' | while read -r path; do
			[ -e "$root$path" ] || install -D -m 755 "$(readlink -f "$path")" "$root$path"
		done
	done
}

# Busybox with Debian's containerd and its like, and the pinned clients where tests look
# for them.
clients_root() {
	busybox_root "$1"
	program "$1" ctr containerd containerd-shim-runc-v2 runc docker-registry script mkfs.ext4
	install -D -t "$1/gantry/.build/clients" .build/clients/{ctr,containerd,containerd-shim-runc-v2,coreclient}
}

# Debian's root, with the packages of some lists, is kept as an archive for as long as
# they are the same.
debian_archive() {
	local name=$1 packages tar
	shift
	packages=$(grep -hv '^#' "$@" | sort | paste -sd,)
	tar=$vm/$name-$(echo "$packages" | sha256sum | cut -c-12).tar
	archive[$name]=$tar
	[ ! -e "$tar" ] || return 0
	echo "making Debian's root for $name"
	rm -f "$vm/$name"-*.tar
	mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" \
		--aptopt='Acquire::Languages "none"' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		bookworm "${tar%.tar}-new.tar" 'deb http://deb.debian.org/debian bookworm main' \
		'deb http://deb.debian.org/debian-security bookworm-security main'
	mv "${tar%.tar}-new.tar" "$tar"
}

# debian_root DIRECTORY ARCHIVE.
debian_root() {
	tar -C "$1" -xf "$2" --exclude='./dev/*'
	# What a machine for one hour without a network can do without.
	ln -sf /dev/null "$1/etc/systemd/system/serial-getty@ttyS0.service"
	ln -sf /dev/null "$1/etc/systemd/system/getty@tty1.service"
	for unit in apt-daily apt-daily-upgrade dpkg-db-backup e2scrub_all fstrim; do
		ln -sf /dev/null "$1/etc/systemd/system/$unit.timer"
	done
	for unit in docker.service docker.socket containerd.service; do # steps start their own
		ln -sf /dev/null "$1/etc/systemd/system/$unit"
	done
	install -D -m 644 $here/steps.service "$1/etc/systemd/system/steps.service"
	ln -s ../steps.service "$1/etc/systemd/system/multi-user.target.wants/steps.service"
	printf '127.0.0.1 localhost vm\n' >"$1/etc/hosts"
	echo vm >"$1/etc/hostname"
}

# disk MACHINE ROOT ARCHIVE: its root with our binaries, the docker CLI, this directory and the
# tests that its steps want; none when there are no steps.
disk() {
	local tree=$vm/tree package
	[ -n "$(wanted "$1")" ] || return 0
	rm -rf "$tree" && mkdir -p "$tree/gantry"/{bin,tests}
	"$2_root" "$tree" "${3:-}"
	cp "${GANTRY_BIN:-bin}"/* .build/docker "$tree/gantry/bin/"
	CGO_ENABLED=0 go build -o "$tree/gantry/bin/" ./internal/testutil/intruder
	wanted "$1" | awk '$5 == "test" {print $6}' | sort -u | while read -r package; do
		CGO_ENABLED=0 go test -c -o "$tree/gantry/tests/${package//\//-}" "./$package"
	done
	cp $here/* "$tree/gantry/"
	rm -f "$vm/disk-$1" && truncate -s 3G "$vm/disk-$1"
	mkfs.ext4 -q -F -E lazy_itable_init=1 -d "$tree" "$vm/disk-$1"
}

# boot MACHINE PARAMETERS: runs its steps; more parameters for the kernel. Its check of
# the timer fails when the emulator gets too little of the processor.
boot() {
	local steps
	steps=$(wanted "$1" | awk '{print $1}' | paste -sd,)
	timeout -k 5 $((limit - SECONDS)) nice -n 5 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 2048 -smp 2 \
		-display none -serial "file:$vm/console-$1" -monitor none -no-reboot -nic none \
		-kernel "$vm/kernel/boot/vmlinuz-$release" -initrd "$vm/initrd.gz" \
		-drive "file=$vm/disk-$1,if=virtio,format=raw,cache=unsafe" \
		-append "console=ttyS0 quiet panic=-1 no_timer_check gantry.steps=$steps $2" </dev/null &
	trap "kill $! 2>/dev/null || true" EXIT
	wait $! || echo "the machine ended with $?"
}

# machine MACHINE PARAMETERS: runs its steps and fails when one did.
machine() {
	[ -n "$(wanted "$1")" ] || return 0
	boot "$1" "$2"
	# What a step prints stands between its marks; a terminal's line ends go.
	tr -d '\r' <"$vm/console-$1" | sed -n '/^VM-/,$p' >"$vm/report-$1"
	rm -f "$vm/disk-$1"
	grep -E '^VM-|^ *(--- FAIL|FAIL|panic)|^not ok' "$vm/report-$1" | sed "s/^/$1: /" || true
	grep -q '^VM-DONE 0$' "$vm/report-$1" && return
	echo "the whole console: $vm/console-$1"
	tail -n 60 "$vm/report-$1"
	return 1
}

# table: of every step how it ended, the tests (or checks) in it, and its seconds; then
# what was skipped and why. A step that a machine's end cut off has no verdict.
table() {
	local m
	printf '%-10s %-8s %-7s %6s %6s %7s %7s\n' step machine ended passed failed skipped seconds
	for m in "$vm"/report-*; do
		awk -v machine="${m##*-}" -v row='%-10s %-8s %-7s %6s %6s %7s %7s\n' '
			/^VM-BEGIN / { step = $2; pass = fail = skip = 0 }
			/^ *--- PASS|^ok / { pass++ }
			/^ *--- FAIL|^not ok / { fail++ }
			/^ *--- SKIP/ { skip++ }
			/^VM-STEP / { printf row, step, machine, $3 ? "failed" : "passed", pass, fail, skip, $4; step = "" }
			END { if (step) printf row, step, machine, "cut off", pass, fail, skip, "" }' "$m"
	done
	echo "skipped:"
	awk '/^VM-BEGIN / { step = $2 }
		/^=== RUN|^=== CONT/ { name = $3 }
		/^ +[a-z0-9_]+\.go:[0-9]+: / { why[name] = $0; sub(/^ +[^ ]+ /, "", why[name]) }
		/^ *--- SKIP/ { print "  " step " " $3 ": " why[$3] }' "$vm"/report-*
}

programs
kernel
ramdisk
declare -A archive
[ -z "$(wanted debian)$(wanted hybrid)" ] || debian_archive debian $here/packages
[ -z "$(wanted swaps)" ] || debian_archive swaps $here/packages $here/packages-swaps
[ -z "$(wanted clients)" ] || { contrib/tools/install.sh && make -s clients; }
SECONDS=0 # the limit is without what was downloaded
disk busybox busybox
disk clients clients
disk debian debian "${archive[debian]:-}"
disk swaps debian "${archive[swaps]:-}"
disk hybrid debian "${archive[debian]:-}"
# Two at a time: the steps of one keep no more than a processor busy.
(
	failed=0
	machine busybox 'gantry.init=/gantry/init' || failed=1
	machine clients 'gantry.init=/gantry/init' || failed=1
	exit $failed
) &
ours=$!
(
	failed=0
	machine debian 'gantry.init=/sbin/init systemd.show_status=0' || failed=1
	machine swaps 'gantry.init=/sbin/init systemd.show_status=0' || failed=1
	machine hybrid 'gantry.init=/sbin/init systemd.show_status=0 systemd.unified_cgroup_hierarchy=0' || failed=1
	exit $failed
) &
theirs=$!
trap 'kill $ours $theirs 2>/dev/null || true' EXIT
failed=0
wait $ours || failed=1
wait $theirs || failed=1
table
echo "$SECONDS seconds in all"
exit $failed
