import static org.junit.jupiter.api.Assertions.assertEquals;

import com.sun.net.httpserver.HttpServer;
import groovy.json.JsonSlurper;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TimeZone;

import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * A month in a house with a Plex, a photo album and a weather station: a pass each half hour, and each two
 * hours on days on which nothing happens. What its owner reads on the phone is tests/month.txt: read it, and
 * ask whether you would want it so. When it differs, the new text is in month.txt in the temp folder.
 */
class MonthTest {
    private static final TimeZone ZONE = TimeZone.getDefault();
    private static final Set<Integer> QUIET_DAYS =
        Set.of(1, 3, 5, 7, 8, 10, 11, 13, 14, 16, 17, 18, 19, 22, 23, 24, 26, 27, 29);

    @TempDir Path folder;
    private final MutableClock clock = new MutableClock(Instant.parse("2026-03-01T00:00:00Z"));
    private final List<String> story = new ArrayList<>();
    private Service internet, plex, photos, weather;
    private HttpServer phone;
    private TestFolder home;
    private int messages;

    @BeforeAll static void timesArePrintedInUtc() { TimeZone.setDefault(TimeZone.getTimeZone("UTC")); }

    @AfterAll static void zone() { TimeZone.setDefault(ZONE); }

    @AfterEach void close() {
        List.of(internet, plex, photos, weather).forEach(Service::close);
        phone.stop(0);
    }

    @Test void theMonthReadsAsAReasonablePersonWantsIt() throws IOException {
        open();
        Instant end = clock.instant().plus(Duration.ofDays(31));
        for (Instant pass = clock.instant(); pass.isBefore(end); pass = pass.plus(step(pass))) {
            clock.add(Duration.between(clock.instant(), pass));
            happen(pass);
            home.watchdog("--quiet");
        }
        story.add("");
        story.add("Restarts: %d of plex, %d of photos, %d of weather. Messages: %d."
            .formatted(plex.restarts(), photos.restarts(), weather.restarts(), messages));
        story.add("");
        story.add(home.watchdog("status").out().strip());
        String lived = String.join("\n", story).replace(internet.url(), "http://internet/") + "\n";
        String golden = Files.readString(golden());
        Path now = Path.of(System.getProperty("java.io.tmpdir"), "month.txt");
        if (!golden.equals(lived)) Files.writeString(now, lived);
        assertEquals(golden, lived, "the month has changed; if it reads better, copy " + now);
    }

    private static Duration step(Instant now) {
        int day = now.atZone(ZoneOffset.UTC).getDayOfMonth();
        return QUIET_DAYS.contains(day) ? Duration.ofHours(2) : Duration.ofMinutes(30);
    }

    /** The script of the month; what is not said here is healthy. */
    private void happen(Instant now) throws IOException {
        switch (now.toString().substring(8, 16)) {
            case "02T03:00" -> says("the tunnel dies in the night", () -> plex.stop());
            case "04T10:00" -> says("Plex is updated: for an hour it is away, and no restart helps",
                () -> noRestartHelps(plex, "plex"));
            case "04T11:00" -> says("the update is done", () -> comesBack(plex, "plex"));
            case "06T18:00" -> says("the provider has an outage; Plex's tunnel loses its connection too",
                () -> {
                    internet.stop();
                    plex.stop();
                });
            case "06T21:00" -> says("the provider is back", () -> internet.start());
            case "09T00:00" -> says("a paused night: the owner works on Plex", () -> {
                home.watchdog("pause", "plex", "--for", "8h");
                noRestartHelps(plex, "plex");
            });
            case "09T07:00" -> says("the work is done", () -> comesBack(plex, "plex"));
            case "12T09:00" -> says("an edit breaks the rules",
                () -> home.rules(rules().replace("restart {", "restrat {")));
            case "12T11:00" -> says("the tunnel dies meanwhile", () -> plex.stop());
            case "12T12:00" -> says("the edit is corrected", () -> home.rules(rules()));
            case "15T12:00", "15T12:30", "15T13:30", "15T14:00" ->
                says("photos fails, as it does today", () -> photos.stop());
            case "20T08:00" -> says("the weather station wants a password now, which no restart can change",
                () -> weatherAnswers(401, "<title>Login</title>", () -> noRestartHelps(weather, "weather")));
            case "21T20:00" -> says("the owner corrects the rule's password",
                () -> weatherAnswers(530, "error code: 1033", () -> comesBack(weather, "weather")));
            case "25T01:00" -> says("the power was away: everything is down", () -> {
                plex.stop();
                photos.stop();
                weather.stop();
            });
            case "28T16:00" -> says("the phone's service has trouble, and the tunnel dies", () -> {
                Files.createFile(folder.resolve("phone.away"));
                plex.stop();
            });
            case "28T18:00" -> says("the phone's service is back",
                () -> Files.delete(folder.resolve("phone.away")));
            case "30T10:00" -> says("the weather station is sold: its power is off",
                () -> noRestartHelps(weather, "weather"));
            case "30T17:00" -> says("its watch is taken out of the rules",
                () -> home.rules(rules().replaceFirst("(?s)watch\\('weather'.*", "")));
            default -> { }
        }
    }

    private String rules() {
        return """
            notify webhook('PHONE')

            watch('internet') {
                url 'INTERNET'
                attempts 1
            }

            watch('plex') {
                url 'PLEX'
                attempts 1
                needs 'internet'
                within 100.milliseconds
                healthy { status == 200 }
                restart { run 'tests/heal plex' }
            }

            watch('photos') {
                url 'PHOTOS'
                attempts 1
                within 100.milliseconds
                limit 3, per: 4.hours
                healthy { status == 200 }
                restart { run 'tests/heal photos' }
            }

            watch('weather') {
                url 'WEATHER'
                attempts 1
                failures 2
                within 100.milliseconds
                limit 3, per: 1.day
                remind 12.hours
                healthy { status == 200 }
                restart { run 'tests/heal weather' }
            }
            """.replace("PHONE", "http://127.0.0.1:" + phone.getAddress().getPort() + "/")
                .replace("INTERNET", internet.url()).replace("PLEX", plex.url())
                .replace("PHOTOS", photos.url()).replace("WEATHER", weather.url());
    }

    private void open() throws IOException {
        internet = started("internet");
        plex = started("plex");
        photos = started("photos");
        weather = started("weather");
        phone = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        phone.createContext("/", exchange -> {
            boolean away = Files.exists(folder.resolve("phone.away")) || !internet.up();
            String json = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
            if (!away) hears((Map<?, ?>) new JsonSlurper().parseText(json));
            exchange.sendResponseHeaders(away ? 503 : 200, -1);
            exchange.close();
        });
        phone.start();
        Path script = Files.createDirectory(folder.resolve("tests")).resolve("heal");
        Files.writeString(script, "#!/bin/sh\necho now >> $1.restarts\ntest -e $1.stubborn || touch $1.up\n");
        Files.setPosixFilePermissions(script, PosixFilePermissions.fromString("rwxr-xr-x"));
        home = new TestFolder(folder).rules(rules());
        home.clock = clock;
    }

    private Service started(String name) {
        Service service = new Service(folder, name);
        service.start();
        service.whenBack = () -> clock.add(Duration.ofSeconds(20)); // so long does each restart take
        return service;
    }

    private synchronized void hears(Map<?, ?> message) {
        messages++;
        story.add(time() + "  * " + message.get("title"));
        for (String line : message.get("text").toString().split("\n")) story.add(" ".repeat(22) + line);
    }

    private interface Deed { void done() throws IOException; }

    private void says(String what, Deed deed) throws IOException {
        synchronized (this) {
            if (!story.isEmpty()) story.add("");
            story.add(time() + "  " + what);
        }
        deed.done();
    }

    private String time() { return clock.instant().toString().replace("T", " ").substring(0, 16); }

    private void noRestartHelps(Service service, String name) throws IOException {
        Files.createFile(folder.resolve(name + ".stubborn"));
        service.stop();
    }

    private void comesBack(Service service, String name) throws IOException {
        Files.delete(folder.resolve(name + ".stubborn"));
        service.start();
    }

    private void weatherAnswers(int status, String body, Deed deed) throws IOException {
        weather.status = status;
        weather.body = body;
        deed.done();
    }

    /** Beside the sources, wherever the tests were started. */
    private static Path golden() {
        for (Path at = Path.of("").toAbsolutePath(); at != null; at = at.getParent())
            if (Files.exists(at.resolve("tests/month.txt"))) return at.resolve("tests/month.txt");
        throw new AssertionError("tests/month.txt is not in " + Path.of("").toAbsolutePath() + " or above");
    }
}
