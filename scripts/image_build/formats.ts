/** The disk image as others want it: qcow2 for QEMU and Proxmox, an OVA (OVF, SHA-256 manifest, streamOptimized VMDK) for VMware. */

import { createHash } from "node:crypto";
import { closeSync, openSync, readSync, statSync, writeFileSync, writeSync } from "node:fs";
import { basename, join } from "node:path";
import { diskBytes, mebibyte } from "../../images/recipe.ts";
import { BuildError } from "../debian/build_error.ts";
import { runProgram } from "./program.ts";
import type { Release } from "./release.ts";

export function makeQcow2(raw: string, path: string, { epoch }: Release): void {
  // Compressed with zlib, which every QEMU and Proxmox reads; what weighs in it is compressed already.
  runProgram("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", "-c", raw, path], epoch);
}

const memoryMib = 1024;
const processors = 2;

export function makeOva(work: string, raw: string, path: string, { epoch, version, name }: Release): void {
  const base = `goldcopy-${version}`;
  const vmdk = join(work, `${base}-disk1.vmdk`);
  const options = ["-o", "subformat=streamOptimized,adapter_type=lsilogic"];
  runProgram("qemu-img", ["convert", "-f", "raw", "-O", "vmdk", ...options, raw, vmdk], epoch);
  nameContent(vmdk, sha256Of(raw).slice(0, 8));
  const ovf = join(work, `${base}.ovf`);
  writeFileSync(ovf, ovfText({ base, name, vmdk: basename(vmdk), vmdkBytes: statSync(vmdk).size }));
  const manifest = join(work, `${base}.mf`);
  writeFileSync(manifest, [ovf, vmdk].map((file) => `SHA256(${basename(file)})= ${sha256Of(file)}\n`).join(""));
  // The description comes first: whoever imports it reads it as a stream.
  const names = [ovf, manifest, vmdk].map((file) => basename(file));
  const who = ["--owner=0", "--group=0", "--numeric-owner", "--mode=0644", `--mtime=@${epoch}`];
  runProgram("tar", ["--format=ustar", ...who, "-C", work, "-cf", path, ...names], epoch);
}

/** A content id that QEMU draws at random becomes one that depends on the content. */
function nameContent(vmdk: string, id: string): void {
  const descriptorBytesMax = 65536;
  const fd = openSync(vmdk, "r+");
  try {
    const head = Buffer.alloc(descriptorBytesMax);
    readSync(fd, head, 0, head.byteLength, 0);
    const at = head.indexOf("\nCID=");
    if (at < 0) throw new BuildError(`${vmdk} has no content id`);
    writeSync(fd, Buffer.from(id), 0, id.length, at + "\nCID=".length);
  } finally {
    closeSync(fd);
  }
}

export function sha256Of(path: string): string {
  const hash = createHash("sha256");
  const buffer = Buffer.alloc(mebibyte);
  const fd = openSync(path, "r");
  try {
    for (let count = 1; count > 0; ) {
      count = readSync(fd, buffer, 0, buffer.byteLength, null);
      hash.update(buffer.subarray(0, count));
    }
  } finally {
    closeSync(fd);
  }
  return hash.digest("hex");
}

/** Only hardware that the kernel has drivers for: a paravirtual SCSI controller and a vmxnet3 network. */
function ovfText(of: { base: string; name: string; vmdk: string; vmdkBytes: number }): string {
  const item = (lines: readonly string[]) =>
    `      <Item>\n${lines.map((line) => `        ${line}\n`).join("")}      </Item>`;
  const field = (tag: string, value: string | number) => `<rasd:${tag}>${value}</rasd:${tag}>`;
  const items = [
    [
      field("ElementName", `${processors} virtual CPUs`),
      field("InstanceID", 1),
      field("ResourceType", 3),
      field("VirtualQuantity", processors),
    ],
    [
      field("AllocationUnits", "byte * 2^20"),
      field("ElementName", `${memoryMib} MiB of memory`),
      field("InstanceID", 2),
      field("ResourceType", 4),
      field("VirtualQuantity", memoryMib),
    ],
    [
      field("Address", 0),
      field("ElementName", "SCSI controller"),
      field("InstanceID", 3),
      field("ResourceSubType", "VirtualSCSI"),
      field("ResourceType", 6),
    ],
    [
      field("AddressOnParent", 0),
      field("ElementName", "system disk"),
      field("HostResource", "ovf:/disk/system"),
      field("InstanceID", 4),
      field("Parent", 3),
      field("ResourceType", 17),
    ],
    [
      field("AddressOnParent", 1),
      field("AutomaticAllocation", "true"),
      field("Connection", "hosts"),
      field("ElementName", "network adapter"),
      field("InstanceID", 5),
      field("ResourceSubType", "VmxNet3"),
      field("ResourceType", 10),
    ],
  ];
  return `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References>
    <File ovf:id="file1" ovf:href="${of.vmdk}" ovf:size="${of.vmdkBytes}"/>
  </References>
  <DiskSection>
    <Info>The system disk. Disks of the shelf are added to the machine.</Info>
    <Disk ovf:diskId="system" ovf:fileRef="file1" ovf:capacity="${diskBytes}" ovf:capacityAllocationUnits="byte" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <NetworkSection>
    <Info>Where hosts and other appliances are.</Info>
    <Network ovf:name="hosts">
      <Description>Hosts and other appliances</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="${of.base}">
    <Info>A Goldcopy appliance</Info>
    <Name>${of.base}</Name>
    <ProductSection>
      <Info>The firmware</Info>
      <Product>Goldcopy</Product>
      <FullVersion>${of.name}</FullVersion>
    </ProductSection>
    <OperatingSystemSection ovf:id="96">
      <Info>Linux, 64 bit</Info>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>What the appliance needs at least</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>${of.base}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-14</vssd:VirtualSystemType>
      </System>
${items.map(item).join("\n")}
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
`;
}
