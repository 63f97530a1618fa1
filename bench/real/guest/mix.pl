# Perl as programs use it: regular expressions over lines, hashes, sorting, string building.
use strict;
use warnings;

my ($state, @lines) = (42);
sub next_number { return $state = ($state * 69069 + 1) & 0xffffffff; }
my @hosts = map { "host$_.example.org" } 1 .. 40;
for my $i (1 .. 24000) {
    my $n = next_number() >> 8;
    push @lines, sprintf '%s - - [%02d/Jan/2026:%02d:%02d:00] "GET /%s/%d.html HTTP/1.1" %d %d',
        $hosts[$n % 40], 1 + $n % 28, $n % 24, $n % 60, ('news', 'docs', 'blog')[$n % 3], $n % 997,
        (200, 200, 200, 304, 404)[$n % 5], $n % 65536;
}
my (%bytes, %status, %pages, %words);
for (@lines) {
    my ($host, $time, $page, $code, $size) =
        /^(\S+) \S+ \S+ \[([^\]]+)\] "\w+ ([^ "]+) HTTP\/[\d.]+" (\d+) (\d+)$/ or next;
    $bytes{$host} += $size;
    $status{$code}++;
    (my $section = $page) =~ s{^/(\w+)/.*}{$1};
    $pages{$section}{$page}++;
    $words{lc $_}++ for split /\W+/, $time;
}
my $digest = 0;
for my $host (sort { $bytes{$b} <=> $bytes{$a} || $a cmp $b } keys %bytes) {
    print "$host $bytes{$host}\n";
}
for my $section (sort keys %pages) {
    my $list = join ',', map { "$_=$pages{$section}{$_}" } sort keys %{ $pages{$section} };
    $digest = ($digest * 31 + ord $_) % 1000000007 for split //, $list;
    (my $swapped = $list) =~ s/(\d+)\.html=(\d+)/$2:$1/g;
    $digest += () = $swapped =~ /(\d)\1/g;
}
print join(' ', map { "$_:$status{$_}" } sort keys %status), " $digest ", scalar(keys %words), "\n";
