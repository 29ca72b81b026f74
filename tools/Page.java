//SOURCES ../watchdog.java
//SOURCES ReportStyle.java

// The page of report.java, from top to bottom.

import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.ZoneId;
import java.time.format.DateTimeFormatter;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/** What the page says; every word that is not ours passes through {@link #text}. */
final class Page {
    private static final int DAYS = 90, HOURS = 24, MAX_INCIDENTS = 100;
    private final Workspace work;
    private final boolean forEverybody;
    private final Instant now;
    private final ZoneId zone = ZoneId.systemDefault();
    private final History history;
    private final Instant lastPass;
    private final List<WatchStatus> watches;

    Page(Workspace work, boolean forEverybody) {
        this.work = work;
        this.forEverybody = forEverybody;
        now = work.now();
        history = work.store().history();
        lastPass = history.lastPass;
        watches = work.rules().watches().stream()
            .map(watch -> StatusCommand.status(watch, work.store(), now)).toList();
    }

    String html() {
        return """
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8"/>
            <meta name="viewport" content="width=device-width, initial-scale=1"/>
            <meta name="color-scheme" content="light dark"/>
            <meta http-equiv="Content-Security-Policy"
              content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"/>
            <link rel="icon" href="data:,"/>
            <title>%s</title>
            <style>%s</style>
            </head>
            <body>%s
            <main>
            %s
            <section aria-label="Services">
            %s</section>
            <section aria-labelledby="incidents">
            <h2 id="incidents">Incidents</h2>
            %s</section>
            </main>
            <footer>Written by watchdog%s. Times are in %s.</footer>
            </body>
            </html>
            """.formatted(summary().replaceAll("<[^>]*>", ""), ReportStyle.CSS, ReportStyle.SIGNS,
                banner(), watches.stream().map(this::row).collect(Collectors.joining()),
                incidents(), forEverybody ? "" : " on " + text(work.context().env.host()),
                text(zone.getId()));
    }

    /** One line of text: masked, without control characters, and with its markup as text. */
    private String text(String text) {
        return Text.plain(work.context().secrets.mask(text), 1000).replace("&", "&amp;")
            .replace("<", "&lt;").replace(">", "&gt;").replace("\"", "&quot;");
    }

    private String time(Instant time) {
        LocalDate day = LocalDate.ofInstant(time, zone);
        String pattern = day.equals(LocalDate.ofInstant(now, zone)) ? "HH:mm" : "d MMM HH:mm";
        return "<time datetime=\"" + time + "\">" + format(pattern, time) + "</time>";
    }

    private String format(String pattern, Instant time) {
        return DateTimeFormatter.ofPattern(pattern, Locale.ENGLISH).format(time.atZone(zone));
    }

    // -- the banner

    private String banner() {
        return """
            <header class="banner %s">%s<div>
            <h1>%s</h1>
            <p>%s</p>
            </div></header>""".formatted(mood(), ReportStyle.sign(mood()), summary(), freshness());
    }

    /** The gravest state; what an old page says is not known to be true. */
    private String mood() {
        if (lastPass == null || work.store().isLate()) return "new";
        return Stream.of("unhealthy", "inconclusive", "paused", "healthy")
            .filter(state -> !in(state).isEmpty()).findFirst().orElse("new");
    }

    private List<WatchStatus> in(String state) {
        return watches.stream().filter(watch -> state(watch).equals(state)).toList();
    }

    /** Between the end of a pause and the next pass a watch is like a new one. */
    private static String state(WatchStatus watch) {
        return watch.state().equals("resumed") ? "new" : watch.state();
    }

    private String summary() {
        if (lastPass == null) return "No pass yet";
        if (work.store().isLate()) return "watchdog is not running";
        List<WatchStatus> concerned = in(mood());
        String names = text(Text.list(concerned.stream().map(WatchStatus::name).toList()));
        int number = concerned.size();
        if (number == 1) return names + is(" is ", mood())
            + (mood().equals("unhealthy") ? " " + since(concerned.get(0)) : "");
        if (!mood().equals("healthy")) return names + is(" are ", mood());
        return (number == watches.size() ? "All " : number + " of ") + watches.size()
            + " services are healthy";
    }

    private static String is(String verb, String state) {
        return switch (state) {
            case "unhealthy" -> verb + "down";
            case "inconclusive" -> " cannot be checked";
            case "new" -> verb + "not checked yet";
            default -> verb + state;
        };
    }

    private String since(WatchStatus watch) {
        Instant end = watch.pausedUntil();
        if (end != null) return end.equals(Text.FOREVER) ? Text.until(end) : "until " + time(end);
        return watch.since() == null ? "" : "since " + time(watch.since()) + " ("
            + Text.time(watch.since(), now).replace(' ', '\u00a0') + ")"; // on one line
    }

    private String freshness() {
        if (lastPass == null) return "The first pass fills this page.";
        Duration every = work.store().interval();
        if (every == null) return "As of " + time(lastPass) + ".";
        if (work.store().isLate()) return "The last pass was at " + time(lastPass)
            + "; the schedule should make one every " + Text.time(every) + ".";
        return "As of " + time(lastPass) + ", next by " + time(lastPass.plus(every))
            + ". If this page is older than " + Text.time(every.multipliedBy(3))
            + ", watchdog is not running.";
    }

    // -- a row for each watch

    private String row(WatchStatus watch) {
        List<Span> spans = history.spans(watch.name());
        String uptimes = watch.watched() == null ? "" : watch.uptimes().entrySet().stream()
            .map(span -> ReportStyle.fact("Up, " + Text.time(span.getKey()),
                WatchStatus.percent(span.getValue())))
            .collect(Collectors.joining());
        String reason = watch.reason() == null || forEverybody ? ""
            : "<p class=\"reason\">" + text(watch.reason()) + "</p>";
        return """
            <article>
            <header><h2>%s</h2><p class="state %s">%s%s <span>%s</span></p></header>
            %s
            <div class="grid">%s%s<dl class="uptime" aria-label="Uptime">%s</dl>
            <dl class="facts">%s%s%s</dl></div>
            </article>
            """.formatted(text(watch.name()), state(watch), ReportStyle.sign(state(watch)),
                is("", state(watch)).strip(), since(watch), reason, hours(spans), days(spans),
                uptimes, latency(watch.name()), certificate(watch.name()),
                restart(watch.lastRestart()));
    }

    private String hours(List<Span> spans) {
        return bars("24 hours", "now", "HH:mm", spans, IntStream.rangeClosed(-HOURS, 0)
            .mapToObj(hour -> now.plus(Duration.ofHours(hour))).toList());
    }

    private String days(List<Span> spans) {
        LocalDate tomorrow = LocalDate.ofInstant(now, zone).plusDays(1);
        return bars("90 days", "today", "d MMM", spans, IntStream.rangeClosed(-DAYS, 0)
            .mapToObj(day -> tomorrow.plusDays(day).atStartOfDay(zone).toInstant()).toList());
    }

    private String bars(String begin, String end, String pattern, List<Span> spans,
                        List<Instant> edges) {
        List<String> labels = edges.stream().map(time -> format(pattern, time)).toList();
        return ReportStyle.bars(begin, end, labels, IntStream.range(1, edges.size())
            .mapToObj(i -> Span.uptime(spans, edges.get(i - 1), edges.get(i))).toList());
    }

    /** Of the healthy checks of a day: with its medians of half an hour as a curve. */
    private String latency(String name) {
        Instant begin = now.minus(Duration.ofHours(HOURS));
        List<Sample> day = history.samples(name).stream()
            .filter(sample -> sample.isHealthy() && sample.at().isAfter(begin)).toList();
        if (day.isEmpty()) return "";
        List<Long> medians = IntStream.range(0, 2 * HOURS).mapToObj(half -> quantile(day.stream()
            .filter(sample -> begin.until(sample.at(), ChronoUnit.MINUTES) / 30 == half), 50))
            .toList();
        return ReportStyle.fact("Response time, 24 h", "median " + quantile(day.stream(), 50)
            + " ms, 95 % within " + quantile(day.stream(), 95) + " ms"
            + ReportStyle.curve(medians));
    }

    /** Of what a pass saw: the milliseconds (0), or the days until the certificate expires (1). */
    private static long number(Sample sample, int place) {
        return Long.parseLong(sample.text().substring(1).split(" ")[place]);
    }

    private static Long quantile(Stream<Sample> samples, int percent) {
        List<Long> sorted = samples.map(sample -> number(sample, 0)).sorted().toList();
        return sorted.isEmpty() ? null : sorted.get((sorted.size() - 1) * percent / 100);
    }

    private String certificate(String name) {
        Sample last = history.samples(name).stream()
            .filter(sample -> sample.text().contains(" ")).reduce((a, b) -> b).orElse(null);
        if (last == null) return "";
        long days = number(last, 1) - last.at().until(now, ChronoUnit.DAYS);
        String left = days < 0 ? "has expired" : Text.count((int) days, "day", "days") + " left";
        return ReportStyle.fact("Certificate", days < 14 ? "<strong>" + left + "</strong>" : left);
    }

    private String restart(RestartRecord last) {
        if (last == null) return "";
        String result = last.isPending() ? "no result yet" : text(last.result());
        return ReportStyle.fact("Last restart", time(last.at()) + (forEverybody ? "" : ", " + result
            + "<br/><small>" + text(last.what()) + "</small>"));
    }

    // -- the incidents

    private String incidents() {
        List<LogEntry> log = new ArrayList<>(work.store().log());
        log.removeIf(entry -> !entry.down()
            && entry.last().at().isBefore(now.minus(Duration.ofDays(DAYS))));
        if (forEverybody) log.removeIf(entry -> watches.stream()
            .noneMatch(watch -> watch.name().equals(entry.first().watch())));
        Collections.reverse(log);
        log.subList(Math.min(log.size(), MAX_INCIDENTS), log.size()).clear();
        return log.isEmpty() ? "<p>No incident in the last 90 days.</p>\n"
            : "<ol>\n" + log.stream().map(this::incident).collect(Collectors.joining()) + "</ol>\n";
    }

    private String incident(LogEntry entry) {
        Model.Event first = entry.first(), last = entry.last();
        boolean reported = MessageText.ENDS.contains(last.kind());
        boolean over = reported || entry.healthySince() != null;
        boolean cameAndWent = entry.messages().stream()
            .anyMatch(event -> event.kind() == Model.EventKind.flapping);
        // That it no longer comes and goes is reported when it was healthy for an hour.
        Instant end = entry.healthySince();
        if (end == null) end = over && cameAndWent ? last.at().minus(Incident.OVER) : last.at();
        String title = !over ? first.title() : first.watch()
            + (cameAndWent ? " came and went for " : " was found down; healthy after ")
            + Text.time(first.since(), end);
        if (first.title().startsWith("Drill: ") && over) title = "Drill: " + title;
        String reason = forEverybody ? "" : "<p>" + text(first.text()) + "</p>";
        String news = over && !reported ? first.watch() + " is healthy again" : last.title();
        String result = first == last ? "" : time(end) + ": " + text(news) + ".";
        return """
            <li>%s<div><h3>%s <span>%s</span></h3>%s<p>%s</p></div></li>
            """.formatted(ReportStyle.sign(over ? "healthy" : entry.down() ? "unhealthy" : "new"),
                text(title), time(first.since()), reason, result);
    }
}
