import { suite } from "uvu";
import * as assert from "uvu/assert";
import { networkLines } from "../../images/network_config.ts";

const test = suite("image_network_config");

const lines = (yaml: string): string[] => {
  const outcome = networkLines(Bun.YAML.parse(yaml));
  if (!outcome.ok) throw new Error(outcome.text);
  return outcome.lines;
};
const refusal = (yaml: string): string => {
  const outcome = networkLines(Bun.YAML.parse(yaml));
  return outcome.ok ? "accepted" : outcome.text;
};

test("version 2 -> by name or hardware address, IPv6 passed over", () => {
  const yaml = `
network:
  version: 2
  ethernets:
    eth0:
      addresses: [192.0.2.10/24, "2001:db8::10/64"]
      gateway4: 192.0.2.1
      nameservers: { addresses: [192.0.2.53, "2001:db8::53"] }
    lan:
      match: { macaddress: "52:54:00:AA:BB:01" }
      dhcp4: true
    eth2:
      addresses: [198.51.100.10/24]
      routes: [{ to: default, via: 198.51.100.1 }]
`;
  assert.equal(lines(yaml), [
    "eth0 address 192.0.2.10/24",
    "eth0 gateway 192.0.2.1",
    "- dns 192.0.2.53",
    "52:54:00:aa:bb:01 dhcp",
    "eth2 address 198.51.100.10/24",
    "eth2 gateway 198.51.100.1",
  ]);
});

test("version 1 as Proxmox writes it -> the same lines", () => {
  const yaml = `
version: 1
config:
  - type: physical
    name: eth0
    mac_address: '52:54:00:aa:bb:01'
    subnets:
      - { type: static, address: '192.0.2.10', netmask: '255.255.255.0', gateway: '192.0.2.1' }
      - { type: static6, address: '2001:db8::10/64' }
  - type: physical
    name: eth1
    subnets: [{ type: dhcp4 }]
  - type: nameserver
    address: ['192.0.2.53']
    search: ['example.org']
`;
  assert.equal(lines(yaml), [
    "52:54:00:aa:bb:01 address 192.0.2.10/24",
    "52:54:00:aa:bb:01 gateway 192.0.2.1",
    "eth1 dhcp",
    "- dns 192.0.2.53",
  ]);
});

test("what is not understood -> refused by the field's name", () => {
  const cases: [string, RegExp][] = [
    ["version: 3", /^network-config: version: 3 is neither 1 nor 2; it is not used$/],
    ["[]", /network-config: is not a table/],
    ["version: 2", /ethernets: missing/],
    [
      "{version: 2, ethernets: {eth0: {addresses: [192.0.2.10]}}}",
      /eth0.addresses: "192.0.2.10" is not an IPv4 address with/,
    ],
    ["{version: 2, ethernets: {eth0: {routes: [{to: 10.0.0.0/8, via: 192.0.2.1}]}}}", /routes: only a default route/],
    ["{version: 2, ethernets: {'eth0; reboot': {dhcp4: true}}}", /names no interface/],
    ["{version: 1, config: [{type: bond, name: bond0}]}", /config\[0\].type: "bond"/],
    ["{version: 1, config: [{type: physical, name: eth0, subnets: [{type: manual}]}]}", /subnets.type: "manual"/],
    [
      "{version: 1, config: [{type: physical, name: eth0, subnets: [{type: static, address: 192.0.2.1, netmask: 255.0.255.0}]}]}",
      /255.0.255.0 is not a netmask/,
    ],
  ];
  for (const [yaml, expected] of cases) assert.match(refusal(yaml), expected);
});

test.run();
