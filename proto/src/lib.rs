//! gRPC contracts of MoE-RAG (DESIGN.md section 6), generated from `moerag/v1/*.proto`.
//!
//! Architecture invariant: in the services no type of this crate leaves `transport/`.

/// Version 1 of the contracts: messages, clients and servers.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("moerag.v1");
}

/// Encoded `FileDescriptorSet` of all services, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("moerag_descriptor");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use prost::Message;
    use prost_types::FileDescriptorSet;

    #[test]
    fn descriptor_set_names_the_four_services() {
        let set = FileDescriptorSet::decode(super::FILE_DESCRIPTOR_SET).unwrap();
        let mut services: Vec<String> = set
            .file
            .iter()
            .filter(|f| f.package() == "moerag.v1")
            .flat_map(|f| f.service.iter().map(|s| s.name().to_owned()))
            .collect();
        services.sort();
        assert_eq!(
            services,
            [
                "CorpusService",
                "ModelService",
                "RouterService",
                "TrainerService"
            ]
        );
    }

    /// buf's STANDARD rules that no other tool of this project checks.
    #[test]
    fn names_follow_buf_standard() {
        let set = FileDescriptorSet::decode(super::FILE_DESCRIPTOR_SET).unwrap();
        let mut used = std::collections::HashSet::new();
        for file in set.file.iter().filter(|f| f.package() == "moerag.v1") {
            assert!(file.name().starts_with("moerag/v1/"), "{}", file.name());
            for enumeration in &file.enum_type {
                let prefix: String = enumeration
                    .name()
                    .chars()
                    .enumerate()
                    .flat_map(|(i, c)| {
                        let gap = (i > 0 && c.is_uppercase()).then_some('_');
                        gap.into_iter().chain([c.to_ascii_uppercase()])
                    })
                    .collect();
                assert_eq!(enumeration.value[0].name(), format!("{prefix}_UNSPECIFIED"));
                assert_eq!(enumeration.value[0].number(), 0);
                for value in &enumeration.value {
                    assert!(
                        value.name().starts_with(&format!("{prefix}_")),
                        "{}",
                        value.name()
                    );
                }
            }
            for service in &file.service {
                for method in &service.method {
                    let expected = format!(".moerag.v1.{}", method.name());
                    assert_eq!(method.input_type(), format!("{expected}Request"));
                    assert_eq!(method.output_type(), format!("{expected}Response"));
                    assert!(used.insert(method.input_type().to_owned()));
                }
            }
        }
    }
}
