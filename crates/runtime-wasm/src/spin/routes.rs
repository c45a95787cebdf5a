//! Which component a request is for: the application's routes, and what its component is told of the match.
//!
//! A route is a path whose segments are words or `:parameters`; `/...` at its end takes everything below. The most
//! specific one wins: words before parameters before the rest.

/// How a path matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match<'a> {
    pub route: &'a str,
    pub component: usize,
    /// What the route's `/...` stands for, with its `/`; empty without one.
    pub rest: String,
    pub parameters: Vec<(&'a str, &'a str)>,
}

/// # Errors
/// What is wrong with it.
pub fn check(route: &str) -> Result<(), &'static str> {
    if !route.starts_with('/') {
        return Err("does not begin with \"/\"");
    }
    let body = route.strip_suffix("/...").unwrap_or(route);
    if body.split('/').any(|segment| segment == "..." || segment == ":") {
        return Err("has \"...\" elsewhere than at its end, or a parameter without a name");
    }
    Ok(())
}

/// The route of a path (without its query), if there is one.
pub fn find<'a>(routes: &'a [(String, usize)], path: &'a str) -> Option<Match<'a>> {
    let matches = routes.iter().filter_map(|(route, component)| matched(route, *component, path));
    matches.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, found)| found)
}

/// How specific a segment is, from least to most.
const REST: u8 = 0;
const PARAMETER: u8 = 1;
const WORD: u8 = 2;
const END: u8 = 3;

fn matched<'a>(route: &'a str, component: usize, path: &'a str) -> Option<(Vec<u8>, Match<'a>)> {
    let (body, open) = route.strip_suffix("/...").map_or((route, false), |body| (body, true));
    let mut given = path.trim_matches('/').split('/').filter(|_| !path.trim_matches('/').is_empty());
    let wanted = body.trim_matches('/').split('/').filter(|_| !body.trim_matches('/').is_empty());
    let (mut rank, mut parameters) = (Vec::new(), Vec::new());
    for segment in wanted {
        let word = given.next()?;
        match segment.strip_prefix(':') {
            Some(name) => {
                parameters.push((name, word));
                rank.push(PARAMETER);
            }
            None if segment == word => rank.push(WORD),
            None => return None,
        }
    }
    let rest: Vec<_> = given.collect();
    if !open && !rest.is_empty() {
        return None;
    }
    rank.push(if open { REST } else { END });
    let rest = match (open, &rest[..]) {
        (false, _) | (true, []) => String::new(),
        (true, rest) => format!("/{}", rest.join("/")),
    };
    Some((rank, Match { route, component, rest, parameters }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_route_wins() {
        let routes = ["/...", "/api/...", "/api/:id", "/api/list", "/exact", "/:a/:b/x"];
        let routes: Vec<_> = routes.iter().enumerate().map(|(index, route)| ((*route).to_owned(), index)).collect();
        for (path, expected, rest) in [
            ("/", "/...", ""),
            ("/other/page", "/...", "/other/page"),
            ("/api", "/api/...", ""),
            ("/api/7", "/api/:id", ""),
            ("/api/list", "/api/list", ""),
            ("/api/list/", "/api/list", ""),
            ("/api/7/more", "/api/...", "/7/more"),
            ("/exact", "/exact", ""),
            ("/one/two/x", "/:a/:b/x", ""),
        ] {
            let found = find(&routes, path).expect("the first takes everything");
            assert_eq!((found.route, found.rest.as_str()), (expected, rest), "{path}");
        }
        assert_eq!(find(&routes, "/one/two/x").expect("is there").parameters, [("a", "one"), ("b", "two")]);
        assert_eq!(find(&routes[3..5], "/nowhere"), None);
        for (route, right) in [("/a/...", true), ("/.../a", false), ("a", false), ("/:", false), ("/", true)] {
            assert_eq!(check(route).is_ok(), right, "{route}");
        }
    }
}
