import { dirname } from "node:path";

/**
 * What Linux' own interfaces are called by number, which differs by processor: `prctl`, `socket`, and the processor's
 * name for filters of system calls (`AUDIT_ARCH_*`).
 */
const numbers: Readonly<Partial<Record<NodeJS.Architecture, readonly number[]>>> = {
  x64: [157, 41, 0xc000003e],
  arm64: [167, 198, 0xc00000b7],
};

/** What an encoder has to read: libraries. Its own folder comes besides. */
const readable = ["/usr", "/lib", "/lib64", "/etc/ld.so.cache"];

/**
 * Gives up everything that an encoder has no use for, then becomes the program behind `--`: no new privileges; no file
 * but libraries, to be read and executed (Landlock, from Linux 5.13 on; with newer versions also no TCP, no signals and no
 * abstract sockets beyond itself); no new socket and no io_uring (seccomp). What is open stays open: the pipes. Perl is
 * part of every Debian, and calls the kernel without a library of its own; see landlock(7) and seccomp(2).
 */
const program = `
my ($prctl, $socket, $processor) = splice @ARGV, 0, 3;
my @readable;
push @readable, shift while $ARGV[0] ne "--";
shift;
sub call { my $answer = syscall($_[0], @_[1 .. $#_]); die "system call $_[0]: $!" if $answer < 0; $answer }
$_ += 0 for $prctl, $socket, $processor;
call($prctl, 38, 1, 0, 0, 0);
my $version = call(444, 0, 0, 1);
my $rights = (1 << ($version < 2 ? 13 : $version < 3 ? 14 : $version < 5 ? 15 : 16)) - 1;
my $attributes = pack "Q3", $rights, 3, 3;
my $rules = call(444, $attributes, $version < 4 ? 8 : $version < 6 ? 16 : 24, 0);
for (@readable) {
  sysopen my $path, $_, 0x200000 or next;
  my $rule = pack "Qi", -d $_ ? 13 : 5, fileno $path;
  call(445, $rules, 1, $rule, 0);
}
call(446, $rules, 0);
my @filter = (
  [0x20, 0, 0, 4], [0x15, 1, 0, $processor], [0x06, 0, 0, 0x80000000],
  [0x20, 0, 0, 0], [0x35, 3, 0, 0x40000000], [0x15, 2, 0, $socket], [0x15, 1, 0, 425],
  [0x06, 0, 0, 0x7fff0000], [0x06, 0, 0, 0x50001],
);
my $filter = join "", map pack("SCCI", @$_), @filter;
my $pointer = pack "Sx6P", scalar @filter, $filter;
call($prctl, 22, 2, $pointer);
exec { $ARGV[0] } @ARGV;
die "exec: $!";
`;

/** The command to put before an encoder's; undefined on processors and systems that it was not written for. */
export function confinementCommand(encoderPath: string): readonly string[] | undefined {
  const forProcessor = process.platform === "linux" ? numbers[process.arch] : undefined;
  if (!forProcessor) return undefined;
  return ["/usr/bin/perl", "-e", program, ...forProcessor.map(String), ...readable, dirname(encoderPath), "--"];
}
