-- How well the domain score tells renders from real videos that its models have not seen: a file counts once, with the
-- mean of its windows. `matched` holds each video against the four renders nearest to it in contrast and sharpness; the
-- last two say how well these tell them apart alone.
WITH files AS (
    SELECT uri, source, avg(domain_score) AS score, avg(measure_contrast) AS contrast, avg(measure_sharpness) AS sharpness
    FROM clips
    WHERE fate = 'kept'
    GROUP BY uri, source
), scaled AS (
    SELECT *, contrast / stddev(contrast) OVER () AS c, sharpness / stddev(sharpness) OVER () AS s FROM files
), pairs AS (
    SELECT r.uri, CASE WHEN d.score > r.score THEN 1.0 WHEN d.score = r.score THEN 0.5 ELSE 0.0 END AS right_way,
        CASE WHEN d.contrast > r.contrast THEN 1.0 ELSE 0.0 END AS by_contrast,
        CASE WHEN d.sharpness > r.sharpness THEN 1.0 ELSE 0.0 END AS by_sharpness,
        row_number() OVER (PARTITION BY r.uri ORDER BY power(d.c - r.c, 2) + power(d.s - r.s, 2)) AS near
    FROM scaled r CROSS JOIN scaled d
    WHERE r.source = 'real' AND d.source = 'synthetic'
)
SELECT coalesce(uri, 'all') AS video, round(avg(right_way), 2) AS domain,
    round(avg(CASE WHEN near <= 4 THEN right_way END), 2) AS matched,
    round(avg(by_contrast), 2) AS contrast, round(avg(by_sharpness), 2) AS sharpness
FROM pairs
GROUP BY ROLLUP (uri)
ORDER BY grouping(uri), uri
