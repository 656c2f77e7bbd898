/** `host`: who may use which volume. Access is closed until a host is added and mapped. */
import { chapSecretOf } from "../manage/chap_secret.ts";
import type { Removed } from "../manage/control.ts";
import type { HostJson } from "../manage/status_json.ts";
import type { Command, Outcome } from "./command.ts";
import { answered, nameArg } from "./command.ts";
import { table } from "./screen.ts";

export const hostCommands: readonly Command[] = [
  {
    noun: "host",
    verb: "add",
    summary: "a host, recognised by where it comes from",
    details:
      "Give at least one of --any, --address, --iqn, --tls-name. Over NBD one that fits is enough; over iSCSI a host with IQNs " +
      "and addresses must have both right, and its CHAP secret. It sees nothing until a volume is mapped to it.",
    args: [nameArg("the new host's name")],
    options: [
      { name: "any", kind: "flag", what: "whoever connects" },
      { name: "address", kind: "list", value: "CIDR", what: "an address or network: 192.0.2.0/24" },
      { name: "iqn", kind: "list", value: "IQN", what: "an iSCSI initiator's name" },
      { name: "tls-name", kind: "list", value: "NAME", what: "the common name in a verified TLS client certificate" },
      { name: "chap-user", kind: "text", value: "U", what: "who the host says it is at an iSCSI login with CHAP" },
      {
        name: "chap-secret-file",
        kind: "text",
        value: "F",
        what: "a file with its secret: one line of 12 to 255 bytes",
      },
    ],
    run: async ({ ask, readFile }, call) => {
      const user = call.text("chap-user");
      const path = call.text("chap-secret-file");
      if ((user === null) !== (path === null))
        return invalid("--chap-user and --chap-secret-file belong together; give both or none");
      let chap: { user: string; secret: string } | null = null;
      if (user !== null && path !== null) {
        const file = readFile(path);
        if ("fault" in file) return invalid(`${path}: ${file.fault}`);
        const read = chapSecretOf(file.text);
        if ("fault" in read) return invalid(`${path}: ${read.fault}`);
        chap = { user, secret: read.secret };
      }
      return answered(
        ask<HostJson>("POST", "/v1/hosts", {
          name: call.arg(0),
          any: call.has("any"),
          addresses: call.list("address"),
          iqns: call.list("iqn"),
          tlsNames: call.list("tls-name"),
          chap,
        }),
        (host) => `added ${host.name} (${whoText(host)}); next: goldcopy host map ${host.name} VOLUME`,
      );
    },
  },
  {
    noun: "host",
    verb: "map",
    summary: "let a host use a volume",
    args: [nameArg("the host"), { name: "VOLUME", what: "the volume" }],
    options: [
      { name: "lun", kind: "integer", value: "N", what: "its number for the host (default: the lowest free one)" },
      { name: "read-only", kind: "flag", what: "reading only" },
    ],
    run: ({ ask }, call) =>
      answered(
        ask<HostJson>("POST", `/v1/hosts/${call.encoded(0)}/map`, {
          volume: call.arg(1),
          lun: call.number("lun"),
          readOnly: call.has("read-only"),
        }),
        (host) => `${host.name} sees: ${mappingsText(host)}`,
      ),
  },
  {
    noun: "host",
    verb: "unmap",
    summary: "take a volume away from a host; its sessions on it close",
    args: [nameArg("the host"), { name: "VOLUME", what: "the volume" }],
    options: [],
    run: ({ ask }, call) =>
      answered(
        ask<HostJson>("POST", `/v1/hosts/${call.encoded(0)}/unmap`, { volume: call.arg(1) }),
        (host) => `${host.name} sees: ${mappingsText(host)}`,
      ),
  },
  {
    noun: "host",
    verb: "list",
    summary: "all hosts and what they see",
    args: [],
    options: [],
    run: ({ ask, style }) =>
      answered(ask<HostJson[]>("GET", "/v1/hosts"), (hosts) =>
        table(
          style,
          ["HOST", "RECOGNISED BY", "SEES"],
          hosts.map((host) => [host.name, whoText(host), mappingsText(host)]),
        ),
      ),
  },
  {
    noun: "host",
    verb: "remove",
    summary: "forget a host; its sessions close",
    args: [nameArg("the host")],
    options: [],
    run: ({ ask }, call) =>
      answered(ask<Removed>("DELETE", `/v1/hosts/${call.encoded(0)}`), ({ removed }) => `removed ${removed}`),
  },
];

function invalid(text: string): Outcome {
  return { kind: "refused", code: "invalid", text };
}

function whoText(host: HostJson): string {
  return [
    ...(host.any ? ["any"] : []),
    ...host.addresses,
    ...host.iqns,
    ...host.tlsNames.map((name) => `TLS ${name}`),
    ...(host.chapUser === null ? [] : [`CHAP ${host.chapUser}`]),
  ].join(", ");
}

function mappingsText(host: HostJson): string {
  if (host.mappings.length === 0) return "nothing";
  return host.mappings
    .map(({ volume, lun, readOnly }) => `${volume} (LUN ${lun}${readOnly ? ", read-only" : ""})`)
    .join(", ");
}
