import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.BufferedInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
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
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;

/**
 * The world that watchdog was made for, on loopback: a public edge, a tunnel daemon, a Plex behind it.
 *
 *     GET url() --> edge == tunnel == cloudflared (a real process) --> plex
 *
 * Only the daemon is another process, because only it is stopped and started by watchdog. It dials the edge, as the
 * real one does, and everything that goes wrong in the real world can be made to go wrong here.
 */
final class EdgeWorld implements AutoCloseable {
    /** How the daemon shows in the process table: `/usr/bin/perl …/bin/cloudflared tunnel run`, or `cloudflared tunnel run`. */
    enum Kind { SCRIPT, NATIVE }

    private static final String PERL = "/usr/bin/perl";

    private final Path folder;
    private final Kind kind;
    private final Plex plex = new Plex();
    private final Edge edge = new Edge();

    static EdgeWorld open(Kind kind) {
        try {
            return new EdgeWorld(kind);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private EdgeWorld(Kind kind) throws IOException {
        this.kind = kind;
        // The real path, because the process table shows that one. Readable by all, because a test may let cron run
        // the daemon as another user.
        folder = Files.createTempDirectory("edgeworld").toRealPath();
        Files.setPosixFilePermissions(folder, PosixFilePermissions.fromString("rwxr-xr-x"));
        plex.start();
        edge.start();
        installDaemon();
    }

    // ---- what a test looks at ------------------------------------------------------------------------------------

    /** Where rules.groovy goes: the native daemon only starts with this as its working directory. */
    Path folder() { return folder; }

    /** The folder to put before PATH. */
    Path bin() { return folder.resolve("bin"); }

    /** The public address, without a slash at its end. */
    String url() { return "http://127.0.0.1:" + edge.frontPort; }

    int requests() { return edge.requests.get(); }

    boolean connected() { return !edge.connectors.isEmpty(); }

    /** The live daemons of this world and no other. A zombie has neither program nor arguments, so it does not count. */
    List<Long> daemons() {
        return handles().stream().map(ProcessHandle::pid).sorted().toList();
    }

    /** What the daemons that the test started have written. */
    String log() {
        try {
            return Files.exists(logFile()) ? Files.readString(logFile()) : "";
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    // ---- what a test does ----------------------------------------------------------------------------------------

    void plexStop() { plex.stop(); }

    void plexStart() { plex.start(); }

    /** The edge refuses every connection; daemons lose theirs and go on dialling. */
    void edgeStop() { edge.stop(); }

    void edgeStart() { edge.start(); }

    /** From now on the edge itself gives this answer to everything; `force(null, null)` ends it. */
    void force(Integer status, String body) {
        edge.forced = status == null ? null : Edge.answer(status, body);
    }

    /** Each daemon that runs now answers nothing more and ignores SIGTERM; one that is started later is well. */
    void hang() { daemons().forEach(pid -> put("hang." + pid, "")); }

    /** The next start, and only that one, exits with code 1 and says why on stderr. */
    void refuseToStart() { put("refuse", ""); }

    /** Each start from now on takes so long to connect. */
    void slowStart(double seconds) { put("slow", String.valueOf(seconds)); }

    /** Starts one more daemon, found on PATH as a person would, in a session of its own and no child of this JVM. */
    long startDaemon() {
        String detach = "my $pid = fork; if ($pid) { print $pid; exit } setsid(); open STDOUT, '>&', STDERR; exec @ARGV";
        var builder = new ProcessBuilder(PERL, "-MPOSIX=setsid", "-e", detach, "cloudflared", "tunnel", "run");
        builder.directory(folder.toFile()).redirectInput(Path.of("/dev/null").toFile());
        builder.redirectError(ProcessBuilder.Redirect.appendTo(logFile().toFile()));
        builder.environment().merge("PATH", bin().toString(), (path, bin) -> bin + ":" + path);
        try {
            long pid = Long.parseLong(new String(builder.start().getInputStream().readAllBytes()));
            await("daemon " + pid + " to run", () -> !alive(pid) || daemons().contains(pid));
            return pid;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Until there is a daemon, and each that lives is connected. */
    void awaitConnected() {
        await("every daemon to be connected", () -> connected() && edge.pids().containsAll(daemons()));
    }

    /** SIGKILL, one by one. */
    void killDaemons() {
        // Again until none is left, as a pass may be starting one at this moment.
        await("the daemons to be gone", () -> {
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

    /** The old name of Wait.until, until the other branches are merged. */
    static void await(String what, BooleanSupplier condition) { Wait.until(what, condition::getAsBoolean); }

    private Path logFile() { return folder.resolve("cloudflared.log"); }

    private List<ProcessHandle> handles() {
        return ProcessHandle.allProcesses().filter(this::isDaemonOfThisWorld).toList();
    }

    private boolean isDaemonOfThisWorld(ProcessHandle process) {
        String program = process.info().command().orElse("");
        String daemon = bin().resolve("cloudflared").toString();
        if (kind == Kind.NATIVE) return program.equals(daemon);
        // The program must be the interpreter: `setsid …/cloudflared` is not yet a daemon.
        String[] arguments = process.info().arguments().orElse(new String[0]);
        return Path.of(program).endsWith("perl") && arguments.length > 0 && arguments[0].equals(daemon);
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

    // ---- the daemon ----------------------------------------------------------------------------------------------

    /** A copy of perl that is called cloudflared takes the word `tunnel` for the script to run, and finds it in its working directory. */
    private void installDaemon() throws IOException {
        Path program = Files.createDirectory(bin()).resolve("cloudflared");
        Path script = kind == Kind.NATIVE ? folder.resolve("tunnel") : program;
        if (kind == Kind.NATIVE) Files.copy(Path.of(PERL), program, StandardCopyOption.COPY_ATTRIBUTES);
        Files.writeString(script, DAEMON.replace("@WORLD@", folder.toString())
            .replace("@EDGE@", "" + edge.controlPort).replace("@PLEX@", "" + plex.port));
        Files.setPosixFilePermissions(program, PosixFilePermissions.fromString("rwxr-xr-x"));
    }

    /** The ports are written into it because cron's environment would pass nothing on. */
    private static final String DAEMON = """
        #!/usr/bin/perl
        # Stand-in for cloudflared: dials the edge, and asks plex whatever comes back through that connection.
        use strict; use warnings; use IO::Socket::INET;
        my $world = '@WORLD@';
        alarm 1800;   # should the tests be killed, their daemons do not stay for ever

        sub note { my @t = gmtime; printf STDERR "%d-%02d-%02dT%02d:%02d:%02dZ %s\\n", 1900 + $t[5], 1 + $t[4], @t[3, 2, 1, 0], @_ }
        sub rest { select undef, undef, undef, $_[0] }
        sub hung { -e "$world/hang.$$" }
        sub dial { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $_[0]) }
        sub ask  { my $plex = dial(@PLEX@) or return ''; print $plex $_[0]; local $/; my $answer = <$plex>; defined $answer ? $answer : '' }

        unless ("@ARGV" =~ /\\brun\\b/ and "$0 @ARGV" =~ /\\btunnel\\b/) { note('ERR stand-in knows only: cloudflared tunnel run'); exit 2 }
        if (unlink "$world/refuse") { note(q{ERR Couldn't start tunnel error="tunnel credentials file not found"}); exit 1 }
        $SIG{PIPE} = 'IGNORE';
        $SIG{TERM} = $SIG{INT} = sub { return if hung(); note('INF Initiating graceful shutdown due to signal terminated'); exit 0 };
        note('INF Starting tunnel');
        if (open my $slow, '<', "$world/slow") { rest(<$slow>) }

        for (;; rest(0.2)) {
            my $edge = dial(@EDGE@) or do { note('ERR Unable to establish connection with Cloudflare edge'); next };
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

    // ---- plex ----------------------------------------------------------------------------------------------------

    private static final class Plex {
        private static final String UNAUTHORIZED =
            "<html><head><title>Unauthorized</title></head><body><h1>401 Unauthorized</h1></body></html>";
        private static final String IDENTITY = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><MediaContainer size=\"0\" "
            + "claimed=\"1\" machineIdentifier=\"0123abcd\" version=\"1.41.0\"></MediaContainer>";

        private HttpServer server;
        private int port;

        void start() {
            try {
                server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
            port = server.getAddress().getPort();   // the same one after a restart
            server.createContext("/", exchange -> answer(exchange, 401, "text/html", UNAUTHORIZED));
            server.createContext("/identity", exchange -> answer(exchange, 200, "text/xml", IDENTITY));
            server.start();
        }

        void stop() { server.stop(0); }

        private static void answer(HttpExchange exchange, int status, String type, String body) throws IOException {
            exchange.getResponseHeaders().set("Content-Type", type);
            exchange.getResponseHeaders().set("X-Plex-Protocol", "1.0");
            exchange.getResponseHeaders().set("Connection", "close");
            byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
            exchange.sendResponseHeaders(status, bytes.length);
            try (exchange) {
                exchange.getResponseBody().write(bytes);
            }
        }
    }

    // ---- the edge ------------------------------------------------------------------------------------------------

    /** Relays raw bytes, so that whatever the client sends reaches plex, and whatever plex says reaches the client. */
    private static final class Edge {
        private static final byte[] NO_TUNNEL = answer(530, "error code: 1033");
        private static final byte[] NO_ORIGIN = answer(502, "error code: 502");
        /** Long enough for a slow machine, short enough for a test of a hung daemon. */
        private static final long PATIENCE_MILLIS = 1500;

        private final List<Connector> connectors = new CopyOnWriteArrayList<>();
        private final AtomicInteger requests = new AtomicInteger();
        private volatile byte[] forced;
        private ServerSocket front, control;
        private int frontPort, controlPort;
        private List<Thread> doors = List.of();

        static byte[] answer(int status, String body) {
            byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
            String head = "HTTP/1.1 " + status + " \r\nServer: cloudflare\r\nContent-Type: text/plain; charset=UTF-8\r\n"
                + "Content-Length: " + bytes.length + "\r\nConnection: close\r\n\r\n";
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
            doors = List.of(welcome(front, this::serve), welcome(control, this::register));
        }

        void stop() {
            try {
                front.close();
                control.close();
                // The kernel goes on listening for as long as a thread still waits in accept().
                for (Thread door : doors) door.join();
                for (Connector connector : connectors) connector.socket.close();
            } catch (IOException | InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }

        List<Long> pids() { return connectors.stream().map(connector -> connector.pid).toList(); }

        private static Thread welcome(ServerSocket door, Consumer<Socket> guest) {
            return background(() -> {
                while (true) {
                    Socket socket;
                    try {
                        socket = door.accept();
                    } catch (IOException closed) {
                        return;
                    }
                    background(() -> guest.accept(socket));
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
                return;   // the client hung up: there is nobody left to answer
            }
        }

        /** The head and body of one request; null when the client leaves without a word. One request a connection. */
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

        /** Connectors take turns, whether they are well or not: that is how one wedged connection fails some requests. */
        private byte[] relay(byte[] request) throws IOException {
            List<Connector> up = List.copyOf(connectors);
            if (up.isEmpty()) return NO_TUNNEL;
            try {
                byte[] answer = up.get(requests.get() % up.size()).ask(request).get(PATIENCE_MILLIS, TimeUnit.MILLISECONDS);
                return answer.length == 0 ? NO_ORIGIN : answer;
            } catch (TimeoutException | ExecutionException | InterruptedException e) {
                return NO_TUNNEL;
            }
        }

        /** Reads for as long as the daemon is there, and so notices at once when it is not. */
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
                // A daemon that was killed in the middle of a line: the same as one that said goodbye.
            } finally {
                if (connector != null) leave(connector);
            }
        }

        private void leave(Connector connector) {
            connectors.remove(connector);
            connector.pending.values().forEach(answer -> answer.completeExceptionally(new IOException("connector lost")));
        }
    }

    /** The edge's end of one daemon's connection. Answers carry the number of their question, as a hung one may give it late. */
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
                socket.getOutputStream().write((questions + " " + request.length + "\n").getBytes(StandardCharsets.US_ASCII));
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
