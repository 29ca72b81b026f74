///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//DEPS org.junit.jupiter:junit-jupiter:5.14.4
//DEPS org.junit.platform:junit-platform-launcher:1.14.4
//DEPS com.squareup.okhttp3:mockwebserver3:5.5.1
//DEPS com.squareup.okhttp3:okhttp-tls:5.5.1
//SOURCES ../watchdog.java
//SOURCES *.java

import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.Set;

import org.junit.platform.engine.FilterResult;
import org.junit.platform.engine.TestDescriptor;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.engine.discovery.ClassNameFilter;
import org.junit.platform.engine.discovery.DiscoverySelectors;
import org.junit.platform.engine.support.descriptor.MethodSource;
import org.junit.platform.launcher.PostDiscoveryFilter;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.TestPlan;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;

/** Runs every class here whose name ends in Test, and tells of it; the last line is what .ci/run reads. */
class TestRun implements TestExecutionListener {

    private static final int FRAMES_SHOWN = 8;

    private TestPlan plan;
    private int passed, failed, skipped;

    // What the class under way began with, to print what it added.
    private int passedBefore, failedBefore, skippedBefore;
    private long classStart;

    public static void main(String... words) throws Exception {
        var run = new TestRun();
        var here = Path.of(TestRun.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        LauncherFactory.create().execute(LauncherDiscoveryRequestBuilder.request()
                .selectors(DiscoverySelectors.selectClasspathRoots(Set.of(here)))
                .filters(ClassNameFilter.includeClassNamePatterns(".*Test"), chosenBy(List.of(words)))
                // No law takes this long: a test that hangs is to fail by name, not to stop the whole run in silence.
                .configurationParameter("junit.jupiter.execution.timeout.default", "5 m")
                .build(), run);
        System.out.println(run.summary());
        // A thread or a server that a failed test left behind must not keep this process alive.
        System.exit(run.failed > 0 || run.passed == 0 ? 1 : 0);
    }

    /** Only methods are judged: JUnit drops a class by itself once none of its methods is left. */
    private static PostDiscoveryFilter chosenBy(List<String> words) {
        return test -> FilterResult.includedIf(words.isEmpty() || method(test).map(name ->
                words.stream().anyMatch(name::contains)).orElse(true));
    }

    private static Optional<String> method(TestDescriptor test) {
        return test.getSource().filter(MethodSource.class::isInstance).map(MethodSource.class::cast)
                .map(source -> source.getClassName() + "." + source.getMethodName());
    }

    @Override
    public void testPlanExecutionStarted(TestPlan plan) {
        this.plan = plan;
    }

    @Override
    public void executionStarted(TestIdentifier test) {
        if (!isTopLevelClass(test)) return;
        passedBefore = passed;
        failedBefore = failed;
        skippedBefore = skipped;
        classStart = System.nanoTime();
    }

    @Override
    public void executionSkipped(TestIdentifier test, String reason) {
        skipped += plan.getDescendants(test).stream().filter(TestIdentifier::isTest).count() + (test.isTest() ? 1 : 0);
        System.out.println("  skipped " + nameOf(test) + ": " + reason);
    }

    @Override
    public void executionFinished(TestIdentifier test, TestExecutionResult result) {
        switch (result.getStatus()) {
            case SUCCESSFUL -> passed += test.isTest() ? 1 : 0;
            case ABORTED -> executionSkipped(test, result.getThrowable().map(Throwable::getMessage).orElse("aborted"));
            case FAILED -> {
                failed++;
                System.out.println("  FAILED " + nameOf(test));
                result.getThrowable().ifPresent(TestRun::tell);
            }
        }
        if (isTopLevelClass(test)) System.out.println(lineFor(test));
    }

    private boolean isTopLevelClass(TestIdentifier test) {
        return plan.getParent(test).map(parent -> plan.getRoots().contains(parent)).orElse(false);
    }

    private String nameOf(TestIdentifier test) {
        var parent = plan.getParent(test).filter(up -> !plan.getRoots().contains(up));
        return parent.map(up -> nameOf(up) + " ").orElse("") + test.getDisplayName();
    }

    /** JUnit's and Java's frames tell nothing about our mistake. Every class of ours is in the default package. */
    private static void tell(Throwable thrown) {
        System.out.println("    " + thrown.toString().replace("\n", "\n    "));
        Arrays.stream(thrown.getStackTrace()).filter(frame -> !frame.getClassName().contains("."))
                .limit(FRAMES_SHOWN).forEach(frame -> System.out.println("      at " + frame));
        if (thrown.getCause() != null) {
            System.out.println("    caused by");
            tell(thrown.getCause());
        }
    }

    private String lineFor(TestIdentifier testClass) {
        return "%-24s %s, %.1f s".formatted(testClass.getDisplayName(),
                counts(passed - passedBefore, failed - failedBefore, skipped - skippedBefore),
                (System.nanoTime() - classStart) / 1e9);
    }

    private String summary() {
        return counts(passed, failed, skipped);
    }

    private static String counts(int passed, int failed, int skipped) {
        return passed + " passed, " + failed + " failed" + (skipped > 0 ? ", " + skipped + " skipped" : "");
    }
}
