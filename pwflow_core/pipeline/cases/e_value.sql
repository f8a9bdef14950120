-- An e-value of a reading, from u, the root of p / alpha: the mean over κ from 0 to 1 of κ u^(κ - 1), over alpha. A p above
-- alpha says nothing. It is at most 1 on average where P(p <= x) is at most the root of alpha x, for all x up to alpha. If
-- p-values are right, that is x, which is less; but far below alpha they follow a tail that was fitted, and so they need
-- only be right in half of their decades. Near u = 1 the mean is 1/2 and a little more.
CREATE OR REPLACE TEMP MACRO e_value_at(u, alpha) AS
    CASE WHEN u > 1 THEN 0 WHEN u > 0.999 THEN 0.5 ELSE (1 - u + u * ln(u)) / (u * ln(u) ** 2) END / alpha;

CREATE OR REPLACE TEMP MACRO e_value(p, alpha) AS e_value_at(sqrt(p / alpha), alpha);
