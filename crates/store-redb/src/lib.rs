//! The embedded durable store: redb with group commit
