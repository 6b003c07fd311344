# unshare --user --map-root-user --mount --pid --fork sh enter_arm64.sh USERLAND PROGRAM [ARGUMENT...]
# runs an aarch64 program in USERLAND. What is mounted and registered here belongs to the namespaces: it ends with them.
set -eu
userland=$1
shift
binfmt=/proc/sys/fs/binfmt_misc
if [ ! -e $binfmt/qemu-aarch64 ]; then
  mount -t binfmt_misc none $binfmt # one of the namespace's own; Linux 6.7 and newer
  # ELF, 64 bits, little-endian, executable or shared, machine 183. F: the emulator is opened now, from outside USERLAND.
  printf %s ':qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:'"$(command -v qemu-aarch64-static)"':F' >$binfmt/register
fi
mount -t proc proc "$userland/proc"
mount --bind "$userland/cpuinfo" "$userland/proc/cpuinfo" # ONNX Runtime crashes on that of an x86-64 processor
mount --rbind /dev "$userland/dev"
mount --rbind /sys "$userland/sys"
exec "$(command -v chroot)" "$userland" /bin/sh -c 'cd /vlj-edge && exec "$@"' sh "$@"
