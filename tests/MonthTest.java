import static org.junit.jupiter.api.Assertions.assertEquals;

import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.TimeZone;

import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * A month in a house with a Plex, a photo album and a weather station: a pass each half hour, and each two hours on
 * days on which nothing happens. What its owner reads on the phone in that month is tests/month.txt: read it, and ask
 * whether you would want it so.
 */
class MonthTest {
    private static final TimeZone ZONE = TimeZone.getDefault();
    private static final List<Integer> QUIET_DAYS = List.of(1, 3, 5, 7, 8, 10, 11, 13, 14, 16, 17, 18, 19, 22, 23, 24, 26, 27, 29);

    @TempDir Path folder;
    private final Run.HandClock clock = new Run.HandClock(Instant.parse("2026-03-01T00:00:00Z"));
    private final List<String> story = new ArrayList<>();
    private Service internet, plex, photos, weather;
    private HttpServer phone;
    private Run.Desk desk;
    private int told;

    @BeforeAll static void timesArePrintedInUtc() { TimeZone.setDefault(TimeZone.getTimeZone("UTC")); }

    @AfterAll static void zone() { TimeZone.setDefault(ZONE); }

    @AfterEach void close() {
        List.of(internet, plex, photos, weather).forEach(Service::close);
        phone.stop(0);
    }

    @Test void theMonthReadsAsAReasonablePersonWantsIt() throws IOException {
        open();
        for (Instant pass = clock.instant(), end = pass.plus(Duration.ofDays(31)); pass.isBefore(end); pass = pass.plus(step(pass))) {
            clock.pass(Duration.between(clock.instant(), pass));
            happen(pass);
            desk.watchdog("--quiet");
        }
        story.add("");
        story.add("Restarts: " + plex.restarts() + " of plex, " + photos.restarts() + " of photos, " + weather.restarts() + " of weather. Messages: " + told + ".");
        story.add("");
        story.add(desk.watchdog("status").out().strip());
        String lived = String.join("\n", story).replace(internet.url(), "http://internet/") + "\n";
        String golden = Files.readString(golden());
        Path now = Path.of(System.getProperty("java.io.tmpdir"), "month.txt");
        if (!golden.equals(lived)) Files.writeString(now, lived);
        assertEquals(golden, lived, "the story of the month has changed; if it reads better now, it is in " + now);
    }

    private static Duration step(Instant now) {
        return QUIET_DAYS.contains(now.atZone(ZoneOffset.UTC).getDayOfMonth()) ? Duration.ofHours(2) : Duration.ofMinutes(30);
    }

    /** The script of the month; what is not said here is healthy. */
    private void happen(Instant now) throws IOException {
        switch (now.toString().substring(8, 16)) {
            case "02T03:00" -> says("the tunnel dies in the night", () -> plex.stop());
            case "04T10:00" -> says("Plex is updated: for an hour it is away, and no restart helps", () -> { stubborn("plex"); plex.stop(); });
            case "04T11:00" -> says("the update is done", () -> { willing("plex"); plex.start(); });
            case "06T18:00" -> says("the provider has an outage; Plex's tunnel loses its connection too", () -> { internet.stop(); plex.stop(); });
            case "06T21:00" -> says("the provider is back", () -> internet.start());
            case "09T00:00" -> says("a paused night: the owner works on Plex", () -> { desk.watchdog("pause", "plex", "--for", "8h"); plex.stop(); stubborn("plex"); });
            case "09T07:00" -> says("the work is done", () -> { willing("plex"); plex.start(); });
            case "12T09:00" -> says("an edit breaks the rules", () -> desk.rules(rules().replace("restart {", "restrat {")));
            case "12T11:00" -> says("the tunnel dies meanwhile", () -> plex.stop());
            case "12T12:00" -> says("the edit is mended", () -> desk.rules(rules()));
            case "15T12:00", "15T12:30", "15T13:30", "15T14:00" -> says("photos fails, as it does today", () -> photos.stop());
            case "20T08:00" -> says("the weather station asks for a password now, which no restart can change", () -> {
                weather.status = 401; weather.body = "<title>Login</title>"; stubborn("weather"); weather.stop(); });
            case "21T20:00" -> says("the owner mends the rule's password", () -> { willing("weather"); weather.start(); weather.status = 530; weather.body = "error code: 1033"; });
            case "25T01:00" -> says("the power was away: everything is down", () -> { plex.stop(); photos.stop(); weather.stop(); });
            case "28T16:00" -> says("the phone's service has trouble, and the tunnel dies", () -> { Files.createFile(folder.resolve("phone.away")); plex.stop(); });
            case "28T18:00" -> says("the phone's service is back", () -> Files.delete(folder.resolve("phone.away")));
            case "30T10:00" -> says("the weather station is sold: its power is off", () -> { stubborn("weather"); weather.stop(); });
            case "30T17:00" -> says("its watch is taken out of the rules", () -> desk.rules(rules().replaceFirst("(?s)watch\\('weather'.*", "")));
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
            """.replace("PHONE", "http://127.0.0.1:" + phone.getAddress().getPort() + "/").replace("INTERNET", internet.url())
                .replace("PLEX", plex.url()).replace("PHOTOS", photos.url()).replace("WEATHER", weather.url());
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
            if (!away) hears((java.util.Map<?, ?>) new groovy.json.JsonSlurper().parseText(json));
            exchange.sendResponseHeaders(away ? 503 : 200, -1);
            exchange.close();
        });
        phone.start();
        Path script = Files.createDirectory(folder.resolve("tests")).resolve("heal");
        Files.writeString(script, "#!/bin/sh\necho now >> $1.restarts\ntest -e $1.stubborn || touch $1.up\n");
        Files.setPosixFilePermissions(script, java.nio.file.attribute.PosixFilePermissions.fromString("rwxr-xr-x"));
        desk = new Run.Desk(folder).rules(rules());
        desk.clock = clock;
    }

    private Service started(String name) {
        Service service = new Service(folder, name);
        service.start();
        service.whenBack = () -> clock.pass(Duration.ofSeconds(20)); // so long does each restart take
        return service;
    }

    private synchronized void hears(java.util.Map<?, ?> message) {
        told++;
        story.add(time() + "  * " + message.get("title"));
        for (String line : message.get("text").toString().split("\n")) story.add("                      " + line);
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

    private void stubborn(String name) throws IOException { Files.createFile(folder.resolve(name + ".stubborn")); }

    private void willing(String name) throws IOException { Files.delete(folder.resolve(name + ".stubborn")); }

    /** Beside the sources, wherever the tests were started. */
    private static Path golden() {
        for (Path at = Path.of("").toAbsolutePath(); at != null; at = at.getParent())
            if (Files.exists(at.resolve("tests/month.txt"))) return at.resolve("tests/month.txt");
        throw new AssertionError("tests/month.txt is not in " + Path.of("").toAbsolutePath() + " or above");
    }
}
