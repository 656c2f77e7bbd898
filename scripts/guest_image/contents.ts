/** What the guest takes from Debian: the kernel, its modules, and the host software. */
import type { PackageSet } from "../debian/packages.ts";

const packages = [
  "busybox-static",
  "udev",
  "dmsetup",
  "open-iscsi",
  "multipath-tools",
  "kpartx",
  "sg3-utils",
  "sg3-utils-udev",
  "e2fsprogs",
  // The libraries of these and of Bun; whether that is all of them is checked when the image is made.
  "libacl1",
  "libaio1",
  "libblkid1",
  "libbsd0",
  "libc6",
  "libcap2",
  "libcom-err2",
  "libdevmapper1.02.1",
  "libedit2",
  "libext2fs2",
  "libgcc-s1",
  "libgcrypt20",
  "libgpg-error0",
  "libisns0",
  "libjson-c5",
  "libkmod2",
  "liblz4-1",
  "liblzma5",
  "libmd0",
  "libmount1",
  "libopeniscsiusr",
  "libpcre2-8-0",
  "libselinux1",
  "libsgutils2-1.46-2",
  "libss2",
  "libssl3",
  "libsystemd0",
  "libtinfo6",
  "libudev1",
  "liburcu8",
  "libuuid1",
  "libzstd1",
];

export const guestPackages: PackageSet = {
  user: "the guest",
  /**
   * Debian's general kernel: its cloud kernel has every module of the guest but scsi_dh_alua (CONFIG_SCSI_DH is off there), and a host
   * with ALUA is what the guest stands for.
   */
  kernel: "linux-image-amd64",
  packages,
};

export const guestModules = [
  // The machine that QEMU shows.
  "virtio_pci",
  "virtio_net",
  "virtio_console",
  // iSCSI disks.
  "sd_mod",
  "sg",
  "iscsi_tcp",
  // Multipath with ALUA.
  "dm_multipath",
  "dm_service_time",
  "dm_round_robin",
  "scsi_dh_alua",
  // Filesystems. ext4 asks for its checksum by an algorithm's name, which no dependency shows.
  "crc32c_generic",
  "ext4",
];
