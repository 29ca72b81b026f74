import java.io.BufferedInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;

/**
 * What watchdog was made for, on loopback: a public edge, a tunnel daemon, a Plex behind it.
 *
 *     GET url() --> edge == tunnel == cloudflared (a real process) --> plex
 *
 * Only the daemon is a process, because watchdog stops and starts nothing else. It connects to the edge
 * as the real one does, and a test can make each part fail as the real ones fail.
 */
final class EdgeWorld implements AutoCloseable {
    /** In the process table: `/usr/bin/perl …/bin/cloudflared tunnel run`, or `cloudflared tunnel run`. */
    enum Kind { SCRIPT, NATIVE }

    private static final String PERL = "/usr/bin/perl";

    private final Path folder;
    private final Kind kind;
    private final String program;
    private final Plex plex = new Plex();
    private final Edge edge = new Edge();

    static EdgeWorld open(Kind kind) { return open(kind, "cloudflared"); }

    /**
     * {@code program}: the daemon's name. Tests that run at the same time need different ones, because `stop`
     * ends every process that runs the same words.
     */
    static EdgeWorld open(Kind kind, String program) {
        try {
            return new EdgeWorld(kind, program);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private EdgeWorld(Kind kind, String program) throws IOException {
        this.kind = kind;
        this.program = program;
        // The real path, because the process table shows that one. Readable by all users, because in CronTest
        // another one runs the daemon.
        folder = Files.createTempDirectory("edgeworld").toRealPath();
        Files.setPosixFilePermissions(folder, PosixFilePermissions.fromString("rwxr-xr-x"));
        plex.start();
        edge.start();
        installDaemon();
    }

    // ---- what a test observes -------------------------------------------------------------------

    /** Where rules.groovy goes: the native daemon only starts with this as its working directory. */
    Path folder() { return folder; }

    /** The folder to put before PATH. */
    Path bin() { return folder.resolve("bin"); }

    /** The public address, without a slash at its end. */
    String url() { return "http://127.0.0.1:" + edge.frontPort; }

    int requests() { return edge.requests.get(); }

    boolean connected() { return !edge.connectors.isEmpty(); }

    /** The live daemons of this world only. A zombie does not count: it has no program and no arguments. */
    List<Long> daemons() {
        return handles().stream().map(ProcessHandle::pid).sorted().toList();
    }

    /** What was written by the daemons that the test started. */
    String log() {
        try {
            return Files.exists(logFile()) ? Files.readString(logFile()) : "";
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    // ---- what a test does -----------------------------------------------------------------------

    void plexStop() { plex.stop(); }

    void plexStart() { plex.start(); }

    /** The edge refuses every connection; daemons lose theirs and try again. */
    void edgeStop() { edge.stop(); }

    void edgeStart() { edge.start(); }

    /** From now on the edge itself answers every request so; `force(null, null)` ends that. */
    void force(Integer status, String body) {
        edge.forced = status == null ? null : Edge.answer(status, body);
    }

    /** The daemons that run now answer nothing more and ignore SIGTERM; one that is started later works. */
    void hang() { daemons().forEach(pid -> put("hang." + pid, "")); }

    /** Only the next start exits with code 1 and prints why on stderr. */
    void refuseToStart() { put("refuse", ""); }

    /** From now on each daemon waits so long before it connects. */
    void slowStart(double seconds) { put("slow", String.valueOf(seconds)); }

    /** Starts one more daemon by its name on PATH, in a new session and not as a child of this JVM. */
    long startDaemon() {
        String detach = "my $pid = fork; if ($pid) { print $pid; exit } "
            + "setsid(); open STDOUT, '>&', STDERR; exec @ARGV";
        var builder = new ProcessBuilder(PERL, "-MPOSIX=setsid", "-e", detach, program, "tunnel", "run");
        builder.directory(folder.toFile()).redirectInput(Path.of("/dev/null").toFile());
        builder.redirectError(ProcessBuilder.Redirect.appendTo(logFile().toFile()));
        builder.environment().merge("PATH", bin().toString(), (path, bin) -> bin + ":" + path);
        try {
            long pid = Long.parseLong(new String(builder.start().getInputStream().readAllBytes()));
            Wait.until("daemon " + pid + " to run", () -> !alive(pid) || daemons().contains(pid));
            return pid;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Until there is a daemon, and each live daemon is connected. */
    void awaitConnected() {
        Wait.until("every daemon to be connected", () -> connected() && edge.pids().containsAll(daemons()));
    }

    /** SIGKILL, again until none is left: a pass may be starting one at this moment. */
    void killDaemons() {
        Wait.until("the daemons to be gone", () -> {
            handles().forEach(ProcessHandle::destroyForcibly);
            return daemons().isEmpty();
        });
    }

    @Override
    public void close() {
        killDaemons();
        edge.stop();
        plex.stop();
        try (var paths = Files.walk(folder)) {
            for (Path path : paths.sorted(Comparator.reverseOrder()).toList()) Files.deleteIfExists(path);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private Path logFile() { return folder.resolve("cloudflared.log"); }

    private List<ProcessHandle> handles() {
        return ProcessHandle.allProcesses().filter(this::isDaemonOfThisWorld).toList();
    }

    private boolean isDaemonOfThisWorld(ProcessHandle process) {
        String running = process.info().command().orElse("");
        String daemon = bin().resolve(program).toString();
        if (kind == Kind.NATIVE) return running.equals(daemon);
        // The running program must be the interpreter: `setsid …/cloudflared` is not yet a daemon.
        String[] arguments = process.info().arguments().orElse(new String[0]);
        return Path.of(running).endsWith("perl") && arguments.length > 0 && arguments[0].equals(daemon);
    }

    private static boolean alive(long pid) {
        return ProcessHandle.of(pid).flatMap(process -> process.info().command()).isPresent();
    }

    private void put(String name, String text) {
        try {
            Files.writeString(folder.resolve(name), text);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    // ---- the daemon -----------------------------------------------------------------------------

    /** A native daemon is a copy of perl, which runs the script `tunnel` of its working directory. */
    private void installDaemon() throws IOException {
        Path file = Files.createDirectory(bin()).resolve(program);
        Path script = kind == Kind.NATIVE ? folder.resolve("tunnel") : file;
        if (kind == Kind.NATIVE) Files.copy(Path.of(PERL), file, StandardCopyOption.COPY_ATTRIBUTES);
        Files.writeString(script, DAEMON.replace("@WORLD@", folder.toString())
            .replace("@EDGE@", "" + edge.controlPort).replace("@PLEX@", "" + plex.server.port()));
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rwxr-xr-x"));
    }

    /** The ports are in the text because cron passes no environment on. */
    private static final String DAEMON = """
        #!/usr/bin/perl
        # Stand-in for cloudflared: connects to the edge, and sends plex each request that the edge sends.
        use strict; use warnings; use IO::Socket::INET;
        my $world = '@WORLD@';
        alarm 1800;   # a daemon that killed tests leave behind ends by itself

        sub note {
            my @t = gmtime;
            printf STDERR "%d-%02d-%02dT%02d:%02d:%02dZ %s\\n", 1900 + $t[5], 1 + $t[4], @t[3, 2, 1, 0], @_;
        }
        sub rest { select undef, undef, undef, $_[0] }
        sub hung { -e "$world/hang.$$" }
        sub dial { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $_[0]) }
        sub ask {
            my $plex = dial(@PLEX@) or return '';
            print $plex $_[0];
            local $/;
            my $answer = <$plex>;
            return defined $answer ? $answer : '';
        }

        unless ("@ARGV" =~ /\\brun\\b/ and "$0 @ARGV" =~ /\\btunnel\\b/) {
            note('ERR this stand-in only knows: cloudflared tunnel run');
            exit 2;
        }
        if (unlink "$world/refuse") {
            note(q{ERR Couldn't start tunnel error="tunnel credentials file not found"});
            exit 1;
        }
        $SIG{PIPE} = 'IGNORE';
        $SIG{TERM} = $SIG{INT} = sub {
            return if hung();
            note('INF Initiating graceful shutdown due to signal terminated');
            exit 0;
        };
        note('INF Starting tunnel');
        if (open my $slow, '<', "$world/slow") { rest(<$slow>) }

        for (;; rest(0.2)) {
            my $edge = dial(@EDGE@);
            if (!$edge) { note('ERR Unable to establish connection with Cloudflare edge'); next }
            print $edge "$$\\n";
            note('INF Registered tunnel connection');
            while (defined(my $line = <$edge>)) {
                my ($id, $length) = split ' ', $line;
                read $edge, my ($request), $length;
                rest(1) while hung();
                my $answer = ask($request);
                note('ERR error="Unable to reach the origin service: connection refused"') unless $answer;
                print $edge "$id ", length $answer, "\\n$answer";
            }
            note('WRN Lost connection with the edge');
        }
        """;

    // ---- plex -----------------------------------------------------------------------------------

    private static final class Plex {
        private static final String UNAUTHORIZED =
            "<html><head><title>Unauthorized</title></head><body><h1>401 Unauthorized</h1></body></html>";
        private static final String IDENTITY = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
            + "<MediaContainer size=\"0\" claimed=\"1\" machineIdentifier=\"0123abcd\" "
            + "version=\"1.41.0\"></MediaContainer>";

        private TestServer server;

        /** On the same port after a restart, because the daemon has it in its text. */
        void start() {
            server = new TestServer(server == null ? 0 : server.port(), (path, body) -> answer(path));
        }

        void stop() { server.close(); }

        private static TestServer.Answer answer(String path) {
            boolean identity = path.startsWith("/identity");
            var headers = Map.of("Content-Type", identity ? "text/xml" : "text/html",
                "X-Plex-Protocol", "1.0", "Connection", "close");
            return new TestServer.Answer(identity ? 200 : 401, identity ? IDENTITY : UNAUTHORIZED, headers);
        }
    }

    // ---- the edge -------------------------------------------------------------------------------

    /** Relays raw bytes, so that the client gets exactly what plex sends, and plex what the client sends. */
    private static final class Edge {
        private static final byte[] NO_TUNNEL = answer(530, "error code: 1033");
        private static final byte[] NO_ORIGIN = answer(502, "error code: 502");
        /** Long enough for a slow machine, short enough for a test of a hung daemon. */
        private static final long TIMEOUT_MILLIS = 1500;

        private final List<Connector> connectors = new CopyOnWriteArrayList<>();
        private final AtomicInteger requests = new AtomicInteger();
        private volatile byte[] forced;
        private ServerSocket front, control;
        private int frontPort, controlPort;
        private List<Thread> acceptors = List.of();

        static byte[] answer(int status, String body) {
            byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
            String head = "HTTP/1.1 " + status + " \r\nServer: cloudflare\r\n"
                + "Content-Type: text/plain; charset=UTF-8\r\nContent-Length: " + bytes.length
                + "\r\nConnection: close\r\n\r\n";
            return (head + body).getBytes(StandardCharsets.UTF_8);
        }

        void start() {
            try {
                front = new ServerSocket(frontPort, 50, InetAddress.getLoopbackAddress());
                control = new ServerSocket(controlPort, 50, InetAddress.getLoopbackAddress());
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
            frontPort = front.getLocalPort();   // the same ones after a restart
            controlPort = control.getLocalPort();
            acceptors = List.of(accept(front, this::serve), accept(control, this::register));
        }

        void stop() {
            try {
                front.close();
                control.close();
                // The kernel goes on listening for as long as a thread still waits in accept().
                for (Thread acceptor : acceptors) acceptor.join();
                for (Connector connector : connectors) connector.socket.close();
            } catch (IOException | InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }

        List<Long> pids() { return connectors.stream().map(connector -> connector.pid).toList(); }

        private static Thread accept(ServerSocket server, Consumer<Socket> handler) {
            return background(() -> {
                while (true) {
                    Socket socket;
                    try {
                        socket = server.accept();
                    } catch (IOException closed) {
                        return;
                    }
                    background(() -> handler.accept(socket));
                }
            });
        }

        private static Thread background(Runnable work) {
            var thread = new Thread(work, "edge");
            thread.setDaemon(true);
            thread.start();
            return thread;
        }

        private void serve(Socket client) {
            try (client) {
                byte[] request = request(new BufferedInputStream(client.getInputStream()));
                if (request == null) return;
                requests.incrementAndGet();
                byte[] forced = this.forced;
                client.getOutputStream().write(forced != null ? forced : relay(request));
            } catch (IOException gone) {
                return;   // the client has closed the connection
            }
        }

        /** Head and body of a connection's only request; null when the client closes without sending one. */
        private static byte[] request(InputStream in) throws IOException {
            String line = line(in);
            if (line == null) return null;
            var head = new StringBuilder(line).append("\r\nConnection: close\r\n");
            int length = 0;
            while ((line = line(in)) != null && !line.isEmpty()) {
                String name = line.toLowerCase();
                if (name.startsWith("content-length:")) length = Integer.parseInt(name.substring(15).trim());
                if (!name.startsWith("connection:")) head.append(line).append("\r\n");
            }
            String body = new String(in.readNBytes(length), StandardCharsets.ISO_8859_1);
            return head.append("\r\n").append(body).toString().getBytes(StandardCharsets.ISO_8859_1);
        }

        private static String line(InputStream in) throws IOException {
            var line = new StringBuilder();
            int b;
            while ((b = in.read()) != '\n') {
                if (b < 0) return null;
                if (b != '\r') line.append((char) b);
            }
            return line.toString();
        }

        /** Connectors take turns, also hung ones: so one hung connection fails some of the requests. */
        private byte[] relay(byte[] request) throws IOException {
            List<Connector> up = List.copyOf(connectors);
            if (up.isEmpty()) return NO_TUNNEL;
            try {
                Connector next = up.get(requests.get() % up.size());
                byte[] answer = next.ask(request).get(TIMEOUT_MILLIS, TimeUnit.MILLISECONDS);
                return answer.length == 0 ? NO_ORIGIN : answer;
            } catch (TimeoutException | ExecutionException | InterruptedException e) {
                return NO_TUNNEL;
            }
        }

        /** Reads until the daemon is gone, so that the edge notices at once. */
        private void register(Socket socket) {
            Connector connector = null;
            try (socket; var in = new BufferedInputStream(socket.getInputStream())) {
                connector = new Connector(socket, Long.parseLong(line(in)));
                connectors.add(connector);
                for (String line; (line = line(in)) != null; ) {
                    String[] words = line.split(" ");
                    connector.answered(Integer.parseInt(words[0]), in.readNBytes(Integer.parseInt(words[1])));
                }
            } catch (IOException | NumberFormatException lost) {
                // A daemon that was killed in the middle of a line is gone like any other.
            } finally {
                if (connector != null) leave(connector);
            }
        }

        private void leave(Connector connector) {
            connectors.remove(connector);
            var lost = new IOException("connector lost");
            connector.pending.values().forEach(answer -> answer.completeExceptionally(lost));
        }
    }

    /** The edge's end of a daemon's connection. An answer has its question's number: it may come late. */
    private static final class Connector {
        private final Socket socket;
        private final long pid;
        private final Map<Integer, CompletableFuture<byte[]>> pending = new ConcurrentHashMap<>();
        private int questions;

        Connector(Socket socket, long pid) {
            this.socket = socket;
            this.pid = pid;
        }

        synchronized CompletableFuture<byte[]> ask(byte[] request) {
            var answer = new CompletableFuture<byte[]>();
            pending.put(++questions, answer);
            try {
                String head = questions + " " + request.length + "\n";
                socket.getOutputStream().write(head.getBytes(StandardCharsets.US_ASCII));
                socket.getOutputStream().write(request);
            } catch (IOException e) {
                answer.completeExceptionally(e);
            }
            return answer;
        }

        void answered(int question, byte[] bytes) {
            CompletableFuture<byte[]> answer = pending.remove(question);
            if (answer != null) answer.complete(bytes);
        }
    }
}
